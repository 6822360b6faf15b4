"""Services that show runs, for `follow_run`; each reads its own environment variables."""

import os
import pathlib
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

PROJECT = "pgjax"  # where the environment names no other

Row = Mapping[str, Any]  # of metrics.jsonl: `step`, and values by name


class Service(Protocol):
    """A run at a service, under the id `id`."""

    id: str

    def log(self, rows: Sequence[Row]) -> None:
        """Sends rows of metrics."""
        ...

    def show(
        self, step: int, name: str, picture: pathlib.Path, header: list[str], rows: list[list[str]]
    ) -> None:
        """Sends answers of the evaluation `name`: a PNG file, and a table of texts."""
        ...

    def close(self, finished: bool) -> None:
        """Ends the run there, as finished or as interrupted."""
        ...


class WeightsAndBiases:
    """https://docs.wandb.ai: WANDB_PROJECT, WANDB_MODE, WANDB_NAME, … are heeded."""

    def __init__(self, folder: pathlib.Path, config: Mapping[str, Any], known: str) -> None:
        """Begins the run, or continues the known one."""
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb: Any = wandb
        self.id = known or uuid.uuid4().hex[:8]
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", config["name"]),
            id=self.id,
            resume="allow",
            dir=folder,
            config=dict(config),
            settings=self._wandb.Settings(console="off"),
        )

    def log(self, rows: Sequence[Row]) -> None:
        """Sends rows of metrics."""
        for row in rows:
            self._run.log({k: v for k, v in row.items() if k != "step"}, step=row["step"])

    def show(
        self, step: int, name: str, picture: pathlib.Path, header: list[str], rows: list[list[str]]
    ) -> None:
        """Sends a picture, and a table."""
        shown = {
            f"{name}/answers": self._wandb.Image(str(picture)),
            f"{name}/predictions": self._wandb.Table(columns=header, data=rows),
        }
        self._run.log(shown, step=step)

    def close(self, finished: bool) -> None:
        """Waits until everything is sent."""
        self._run.finish(exit_code=0 if finished else 1)


class Mlflow:
    """https://mlflow.org: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, … are heeded."""

    def __init__(self, folder: pathlib.Path, config: Mapping[str, Any], known: str) -> None:
        """Begins the run, or continues the known one."""
        import mlflow  # pyright: ignore[reportMissingImports]

        self._entities: Any = mlflow.entities
        self._client: Any = mlflow.MlflowClient()
        if known:
            self.id = known
            self._client.update_run(known, status="RUNNING")
            return
        named = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = mlflow.set_experiment(named).experiment_id
        self.id = self._client.create_run(experiment, run_name=config["name"]).info.run_id
        self._client.log_dict(self.id, dict(config), "config.json")
        params = [self._entities.Param(k, str(v)[:500]) for k, v in _flat(config).items()]
        for some in _parts(params, 100):
            self._client.log_batch(self.id, params=some)

    def log(self, rows: Sequence[Row]) -> None:
        """Sends rows of metrics."""
        now = int(1000 * time.time())
        values = [
            self._entities.Metric(key, value, now, row["step"])
            for row in rows
            for key, value in row.items()
            if key != "step"
        ]
        for some in _parts(values, 1000):
            self._client.log_batch(self.id, metrics=some)

    def show(
        self, step: int, name: str, picture: pathlib.Path, header: list[str], rows: list[list[str]]
    ) -> None:
        """Sends a picture and a table as artifacts."""
        self._client.log_artifact(self.id, str(picture), "answers")
        lines = [header, ["---"] * len(header), *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        self._client.log_text(self.id, table, f"answers/{name}_{step}.md")

    def close(self, finished: bool) -> None:
        """Sets the run's status."""
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")


SERVICES = {"wandb": WeightsAndBiases, "mlflow": Mlflow}


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The values of a config by dotted key."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{before}{key}."))
        else:
            found[before + key] = value
    return found


def _parts(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
