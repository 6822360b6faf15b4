"""Installs pgjax: `pip install .`, or with an extra, `pip install '.[cuda12]'`."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
ABOUT = dict(re.findall(r'^(\w+) = "(.*)"', (HERE / "pgjax/__init__.py").read_text(), re.MULTILINE))
JAX = "jax>=0.10.2,<0.13"
# Attention of long sequences on a GPU; without it they go in blocks.
TOKAMAX = "tokamax>=0.0.17; python_version >= '3.12'"

setup(
    name="paligemma-jax",  # the name pgjax is another project's in the package index
    version=ABOUT["__version__"],
    description="PaliGemma in JAX/Flax: fine-tune, evaluate and predict",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    url=ABOUT["REPOSITORY"],
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    # Configs are installed inside the package, so that their names work wherever a command runs.
    packages=[*find_packages(include=["pgjax", "pgjax.*"]), "pgjax.configs", "pgjax.transfers"],
    package_dir={"pgjax.configs": "configs", "pgjax.transfers": "transfers"},
    package_data={
        "pgjax": ["py.typed"],
        "pgjax.checkpoints": ["*.npz"],
        "pgjax.conformance": ["data/*"],
        "pgjax.demo": ["page.css", "photos/*"],
        "pgjax.text": ["*.model"],
    },
    entry_points={
        "console_scripts": ["pgjax = pgjax.commands.main:main"],
        "lmms_eval.models": ["pgjax = pgjax.harnesses:manifest"],
    },
    # Lower bounds are versions that the tests pass with (.ci/lower_bounds), old enough for what a
    # Colab session has loaded; upper bounds stand where a release is known to change what pgjax
    # relies on.
    install_requires=[
        JAX,
        "absl-py>=1.4",
        "array_record>=0.8.1",
        "etils[epath]>=1.13",
        "flax>=0.12.8,<0.13",
        "fsspec>=2025.3",
        "grain>=0.2.18",
        "huggingface_hub>=2.0",
        "jaxtyping>=0.3",
        "ml_collections>=1.1",
        "ml_dtypes>=0.5",
        "numpy>=2.0.2",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pillow>=11.3",
        "safetensors>=0.5",
        "sentencepiece>=0.2",
        "pyyaml>=6.0.2",  # data.yaml of YOLO
        "tensorboardX>=2.6.2.2",
        "tensorflow-datasets>=4.9.10",
        "tqdm>=4.67",
    ],
    extras_require={
        "cuda12": [JAX.replace("jax", "jax[cuda12]"), TOKAMAX],
        "cuda13": [JAX.replace("jax", "jax[cuda13]"), TOKAMAX],
        "tpu": [JAX.replace("jax", "jax[tpu]")],
        "demo": ["gradio>=6.31"],
        "serve": ["starlette>=1.0", "uvicorn>=0.40"],
        "kaggle": ["kagglehub>=0.3.12"],
        "wandb": ["wandb>=0.31"],
        "mlflow": ["mlflow-skinny>=3.17"],
        "notebook": ["ipykernel>=6.17.1", "matplotlib>=3.10", "nbclient>=0.10", "nbformat>=5.10"],
        "metrics": ["lxml>=5.3", "pycocotools>=2.0.8"],  # tables, and detection
        # METEOR and SPICE; CIDEr, BLEU and ROUGE-L are compared with it. It wants Java.
        "captions": ["pycocoevalcap>=1.2"],
        "prepare": ["pyarrow>=18.0", "pycocotools>=2.0.8"],  # for what reads parquet, and masks
        "video": ["av>=14.0"],
        "molecules": ["epam-indigo>=1.30", "rdkit>=2025.3"],  # drawn to train on; compared
        "heif": ["pillow-heif>=1.8"],
        "supervision": ["supervision>=0.31"],
        "test": [
            "apted>=1.0.3",
            "av>=14.0",
            "basedpyright==1.40.2",  # exact: each release of a type checker finds other things
            "beartype>=0.23.1",
            "hypothesis>=6.170",
            "lxml>=5.3",
            "pyarrow>=18.0",
            "pycocotools>=2.0.8",
            "ipykernel>=6.17.1",
            "matplotlib>=3.10",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "openai>=3.0",
            "pytest>=9.0",
            "pytest-xdist>=3.8",
            "ruff>=0.14",
            "selenium>=4.0",
            "setuptools>=80.0",  # builds the wheel that is tested
            "starlette>=1.0",
            "uvicorn>=0.40",
        ],
        "docs": ["mkdocs>=1.6.1", "mkdocs-material>=9.8", "mkdocstrings[python]>=1.0.8"],
        "dev": ["pre-commit>=4.7"],
        # What exports and metrics are compared with, where it is installed; never needed otherwise.
        "live": [
            "epam-indigo>=1.30",
            "levenshtein>=0.27",
            "peft>=0.21",
            "rdkit>=2025.3",
            "torch>=2.13",
            "transformers>=5.23",
        ],
    },
)
