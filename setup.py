"""Installs pgjax: `pip install .`, or with an extra, `pip install '.[cuda12]'`."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.*)"', (HERE / "pgjax/__init__.py").read_text())[1]
JAX = "jax>=0.10.2,<0.13"
# Attention of long sequences on a GPU; without it they go in blocks.
TOKAMAX = "tokamax>=0.0.17; python_version >= '3.12'"

setup(
    name="pgjax",
    version=VERSION,
    description="PaliGemma in JAX/Flax: fine-tune, evaluate and predict",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    # Configs are installed inside the package, so that their names work wherever a command runs.
    packages=[*find_packages(include=["pgjax", "pgjax.*"]), "pgjax.configs", "pgjax.transfers"],
    package_dir={"pgjax.configs": "configs", "pgjax.transfers": "transfers"},
    package_data={
        "pgjax": ["py.typed"],
        "pgjax.checkpoints": ["*.npz"],
        "pgjax.text": ["*.model"],
    },
    entry_points={"console_scripts": ["pgjax = pgjax.commands.main:main"]},
    # Lower bounds are the versions that the tests have run with; upper bounds stand where a release
    # is known to change what pgjax relies on.
    install_requires=[
        JAX,
        "absl-py>=2.5",
        "array_record>=0.8.6",
        "etils[epath]>=1.15",
        "flax>=0.12.8,<0.13",
        "fsspec>=2026.9",
        "grain>=0.2.18",
        "huggingface_hub>=2.4",
        "jaxtyping>=0.3.11",
        "ml_collections>=1.1",
        "ml_dtypes>=0.5",
        "numpy>=2.4",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pillow>=12.3",
        "safetensors>=0.8",
        "sentencepiece>=0.2.3",
        "pyyaml>=6.0",  # data.yaml of YOLO
        "tensorboardX>=2.6.5",
        "tensorflow-datasets>=4.9.10",
        "tqdm>=4.70",
    ],
    extras_require={
        "cuda12": [JAX.replace("jax", "jax[cuda12]"), TOKAMAX],
        "cuda13": [JAX.replace("jax", "jax[cuda13]"), TOKAMAX],
        "tpu": [JAX.replace("jax", "jax[tpu]")],
        "demo": ["gradio>=6.31"],
        "kaggle": ["kagglehub>=1.0"],
        "notebook": ["ipykernel>=7.4", "matplotlib>=3.11", "nbclient>=0.11", "nbformat>=5.11"],
        "metrics": ["pycocotools>=2.0.11"],
        # METEOR, ROUGE-L and SPICE; CIDEr and BLEU are compared with it. It wants Java.
        "captions": ["pycocoevalcap>=1.2"],
        "prepare": ["pyarrow>=25.0", "pycocotools>=2.0.11"],  # for what reads parquet, and masks
        "video": ["av>=18.0"],
        "test": [
            "av>=18.0",
            "basedpyright==1.40.2",  # exact: each release of a type checker finds other things
            "beartype>=0.23.1",
            "hypothesis>=6.170",
            "pyarrow>=25.0",
            "pycocotools>=2.0.11",
            "ipykernel>=7.4",
            "matplotlib>=3.11",
            "nbclient>=0.11",
            "nbformat>=5.11",
            "pytest>=9.0",
            "pytest-xdist>=3.8",
            "ruff>=0.14",
            "selenium>=4.0",
            "setuptools>=80.0",  # builds the wheel that is tested
        ],
        "docs": ["mkdocs>=1.6.1", "mkdocs-material>=9.8", "mkdocstrings[python]>=1.0.8"],
        "dev": ["pre-commit>=4.7"],
        # What the exports are compared with, where it is installed; never needed otherwise.
        "live": ["peft>=0.21", "torch>=2.13", "transformers>=5.23"],
    },
)
