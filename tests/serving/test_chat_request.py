"""What requests ask is read whole, or refused in one sentence."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgjax.errors import UserError
from pgjax.serving.chat_request import read_messages, read_request

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
ASK = {"type": "text", "text": "caption en"}
MESSAGES = [{"role": "user", "content": [IMAGE, ASK]}]


def request(**changes):
    return read_request(json.dumps({"model": "tiny", "messages": MESSAGES} | changes).encode())


def test_defaults():
    """As `pgjax.load` answers: the most probable tokens, and a length that suits the prompt."""
    asked = request()
    assert (asked.heat, asked.top_p, asked.longest, asked.stops, asked.n) == (0, None, None, (), 1)
    assert not asked.stream and not asked.logprobs and asked.seed is None


def test_values():
    asked = request(temperature=1, top_p=0.5, seed=7, stop=["a", "b"], n=2, max_completion_tokens=9,
                    logprobs=True, top_logprobs=3, stream=True,
                    stream_options={"include_usage": True})  # fmt: skip
    assert (asked.heat, asked.top_p, asked.seed, asked.n) == (1.0, 0.5, 7, 2)
    assert (asked.stops, asked.longest, asked.top_logprobs) == (("a", "b"), 9, 3)
    assert asked.stream and asked.stream_options.include_usage
    assert request(stop="a").stops == ("a",) and request(max_tokens=4).longest == 4
    assert request(max_tokens=4, max_completion_tokens=4).longest == 4
    assert request(top_p=0.9).heat == 1.0 and request(top_p=0.9, temperature=0).heat == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": None, "stop": None, "tools": None, "seed": None},
        {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}},
        {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}},
    ],
)
def test_what_changes_nothing_is_taken(changes):
    assert request(**changes) == request()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"temperature": 2.5}, "request.temperature is 2.5; expected a finite number from 0 to 2"),
        ({"temperature": "1"}, "request.temperature is '1'"),
        ({"temperature": True}, "request.temperature is True"),
        ({"top_p": 0}, "request.top_p is 0"),
        ({"n": 0}, "request.n is 0; expected a whole number from 1 to 8"),
        ({"n": 1.5}, "request.n is 1.5"),
        ({"seed": -1}, "request.seed is -1"),
        ({"seed": 2**31}, "request.seed is 2147483648"),
        ({"max_tokens": 0}, "request.max_tokens is 0"),
        ({"max_tokens": 4, "max_completion_tokens": 5}, "differ"),
        ({"stop": ["a"] * 5}, "expected up to 4 texts"),
        ({"stop": [""]}, "not empty"),
        ({"stop": 3}, "request.stop is 3"),
        ({"stream": "yes"}, "request.stream is 'yes'"),
        ({"stream_options": {"include_usage": True}}, "needs stream"),
        ({"top_logprobs": 2}, "needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "from 0 to 20"),
        ({"tools": [{"type": "function"}]}, "request.tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "request.response_format is not supported"),
        ({"frequency_penalty": 0.5}, "request.frequency_penalty is not supported"),
        ({"top_k": 5}, "request.top_k is not a known key"),
        ({"model": 3}, "request.model is 3"),
        ({"messages": []}, "request.messages is ()"),
        ({"messages": "hello"}, "request.messages is 'hello'; expected a list of one message"),
    ],
)
def test_what_would_change_the_answer_is_refused(changes, said):
    with pytest.raises(UserError) as e:
        request(**changes)
    assert said in str(e.value) and str(e.value).endswith(".")


@pytest.mark.parametrize(
    "body, said",
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"temperature": NaN}', "NaN is no number of JSON"),
        (b'{"seed": %s}' % (b"1" * 5000), "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"{}", "request.model is missing"),
    ],
)
def test_bodies_that_are_none(body, said):
    with pytest.raises(UserError, match=said):
        read_request(body)


def test_messages():
    assert read_messages(MESSAGES) == ("caption en", IMAGE["image_url"]["url"])
    assert read_messages([{"role": "user", "content": [ASK, IMAGE]}]) == read_messages(MESSAGES)
    assert read_messages([{"role": "user", "content": [IMAGE]}])[0] is None
    marked = {"type": "text", "text": "<image><bos>caption en\n"}
    assert read_messages([{"role": "user", "content": [IMAGE, marked]}])[0] == "caption en"


USER = MESSAGES[0]


@pytest.mark.parametrize(
    "messages, said",
    [
        ([{"role": "system", "content": "x"}, USER], "messages[0] is one of the role 'system'"),
        ([USER, {"role": "assistant", "content": "a cat"}, USER], "messages[0] is one of several"),
        ([{"role": "assistant", "content": "x"}], "of the role 'assistant'"),
        ([3], "messages[0] is one of the role None"),
        ([{"role": "user"}], "content is None; expected a list"),
        ([{"role": "user", "content": {}}], "content is {}; expected a list"),
        ([{"role": "user", "content": "caption en"}], "has 0 images and 1 texts"),
        ([{"role": "user", "content": [IMAGE, IMAGE, ASK]}], "has 2 images and 1 texts"),
        ([{"role": "user", "content": [IMAGE, ASK, ASK]}], "has 1 images and 2 texts"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "content[0] is {'type'"),
        ([{"role": "user", "content": [IMAGE, "caption"]}], "content[1] is 'caption'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "a"}]}], "an object"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "url is None"),
        ([{"role": "user", "content": [{"type": "text", "text": 3}]}], "text is 3; expected text"),
    ],
)
def test_other_conversations_are_refused(messages, said):
    with pytest.raises(UserError) as e:
        read_messages(messages)
    assert said in str(e.value) and str(e.value).endswith(".")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
names = st.sampled_from(["model", "messages", "temperature", "top_p", "seed", "stop", "n", "stream",
                         "stream_options", "logprobs", "top_logprobs", "max_tokens", "tools",
                         "logit_bias", "user"])  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.dictionaries(names, json_values), json_values)
def test_anything_is_read_or_refused(changes, content):
    messages = [{"role": "user", "content": content}]
    body = json.dumps({"model": "tiny", "messages": messages} | changes).encode()
    try:
        read_messages(read_request(body).messages)
    except UserError as e:
        assert str(e).endswith(".") and "\n" not in str(e)
