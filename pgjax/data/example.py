"""What travels through a pipeline: one example, a dict with `image`, `prefix`, `suffix`, …."""

from typing import Any

Example = dict[str, Any]
