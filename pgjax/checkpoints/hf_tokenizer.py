"""Finds the tokenizer of a Hugging Face folder, and refuses vocabularies that pgjax lacks."""

import pathlib

from pgjax.checkpoints.json_file import JsonObject, read_json
from pgjax.text.tokenizer_json import IMAGE, added_tokens, refuse_added

MODEL, JSON = "tokenizer.model", "tokenizer.json"
_ADDED, _CONFIG = "added_tokens.json", "tokenizer_config.json"


def find_tokenizer(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file of the folder's tokenizer: a SentencePiece model, else a `tokenizer.json`.

    Raises:
      UserError: tokens were added after `<image>`; a `tokenizer.json` is checked when it is opened.
    """
    if (folder / _ADDED).is_file():
        tokens = read_json(folder / _ADDED)
        ids = {token: tokens.integer(token) for token in tokens.values}
        refuse_added(added_tokens(ids), folder / _ADDED)
    if (folder / _CONFIG).is_file():
        refuse_added(added_tokens(_configured(read_json(folder / _CONFIG))), folder / _CONFIG)
    return next((path for name in (MODEL, JSON) if (path := folder / name).is_file()), None)


def _configured(config: JsonObject) -> dict[str, int]:
    """Returns the ids of the tokens that transformers 4 lists in a tokenizer_config.json."""
    listed = config.section("added_tokens_decoder", optional=True)
    tokens = {key: listed.section(key).text("content") for key in listed.values}
    if IMAGE not in tokens.values():
        return {}
    for key in tokens:
        if not key.isdecimal():
            raise listed.error(key, "the id of a token as its key")
    return {text: int(key) for key, text in tokens.items()}
