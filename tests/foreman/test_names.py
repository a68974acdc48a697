import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman import names
from foreman.names import InvalidName, Name

HOST = "registry.ollama.ai"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("llama3.2", "registry.ollama.ai/library/llama3.2:latest"),
        ("LLAMA3.2:Latest", "registry.ollama.ai/library/llama3.2:latest"),
        ("  llama3.2\n", "registry.ollama.ai/library/llama3.2:latest"),
        ("library/llama3.2", "registry.ollama.ai/library/llama3.2:latest"),
        (
            "registry.ollama.ai/library/llama3.2:latest",
            "registry.ollama.ai/library/llama3.2:latest",
        ),
        (
            "https://registry.ollama.ai/library/llama3.2",
            "registry.ollama.ai/library/llama3.2:latest",
        ),
        ("https:///library/llama3.2", "registry.ollama.ai/library/llama3.2:latest"),
        ("llama3.2:1b", "registry.ollama.ai/library/llama3.2:1b"),
        ("mike/mario", "registry.ollama.ai/mike/mario:latest"),
        (
            "hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_K_M",
            "hf.co/bartowski/llama-3.2-1b-gguf:q4_k_m",
        ),
        ("localhost:5000/ns/m", "localhost:5000/ns/m:latest"),
        ("llama3.2:local", "registry.ollama.ai/library/llama3.2:latest"),
        ("llama3.2:1b:local", "registry.ollama.ai/library/llama3.2:1b"),
        ("mycloud", "registry.ollama.ai/library/mycloud:latest"),
        ("x:mycloud", "registry.ollama.ai/library/x:mycloud"),
        ("gpt-oss:120b-cloud", "registry.ollama.ai/library/gpt-oss:120b-cloud"),
        ("gpt-oss:120b:cloud", "registry.ollama.ai/library/gpt-oss:120b-cloud"),
        ("gpt-oss:cloud", "registry.ollama.ai/library/gpt-oss:cloud"),
        ("gpt-oss:latest-cloud", "registry.ollama.ai/library/gpt-oss:cloud"),
    ],
)
def test_names_of_one_model_have_one_key(name: str, key: str) -> None:
    assert names.key(name) == key


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "model is required"),
        ("  ", "model is required"),
        ("hf.co/foo", "invalid model name"),
        ("a/b/c/d", "invalid model name"),
        ("llama3.2:", "invalid model name"),
        (":1b", "invalid model name"),
        ("/m", "invalid model name"),
        ("/ns/m", "invalid model name"),
        ("ns//m", "invalid model name"),
        ("https://m", "invalid model name"),
        ("llama3.2@sha256:abc", "invalid model name"),
        ("-m", "invalid model name"),
        ("m m", "invalid model name"),
        ("m:-cloud", "invalid model name"),
        ("m:a\n-cloud", "invalid model name"),
        ("m" * 81, "invalid model name"),
        ("h" * 351 + "/ns/m", "invalid model name"),
        ("x:cloud:local", 'use either :local or :cloud, not both: "x:cloud:local"'),
        ("x:1b-cloud:cloud", 'use either :local or :cloud, not both: "x:1b-cloud:cloud"'),
    ],
)
def test_a_bad_name_gets_the_targets_own_text(name: str, text: str) -> None:
    with pytest.raises(InvalidName) as caught:
        names.key(name)
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("gpt-oss:120b-cloud", Name(HOST, "library", "gpt-oss", "120b", "cloud")),
        ("gpt-oss:120b:Cloud", Name(HOST, "library", "gpt-oss", "120b", "cloud")),
        ("gpt-oss:cloud", Name(HOST, "library", "gpt-oss", "latest", "cloud")),
        ("llama3.2:local", Name(HOST, "library", "llama3.2", "latest", "local")),
        ("x:mycloud", Name(HOST, "library", "x", "mycloud")),
        ("localhost:5000/ns/M", Name("localhost:5000", "ns", "M", "latest")),
    ],
)
def test_the_source_suffix_is_no_part_of_the_tag(name: str, parsed: Name) -> None:
    assert names.parse(name) == parsed


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("Library/Llama3.2", "Llama3.2:latest"),
        ("mike/mario", "mike/mario:latest"),
        ("hf.co/b/M-GGUF:Q4_K_M", "hf.co/b/M-GGUF:Q4_K_M"),
        ("gpt-oss:120b:cloud", "gpt-oss:120b-cloud"),
        ("gpt-oss:cloud", "gpt-oss:cloud"),
        ("m:local", "m:latest"),
    ],
)
def test_the_display_form_always_shows_the_tag(name: str, shown: str) -> None:
    assert names.display(name) == shown


@pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "gpt-oss:cloud", "mike/x:1b:cloud"])
def test_a_cloud_suffix_is_seen(name: str) -> None:
    assert names.parse(name).source == "cloud"


@pytest.mark.parametrize("name", ["mycloud", "x:mycloud", "x:local"])
def test_other_names_are_not_cloud(name: str) -> None:
    assert names.parse(name).source != "cloud"


def test_a_name_of_a_megabyte_is_answered_and_not_remembered() -> None:
    before = names._parse.cache_info().currsize
    assert names.key("s" * 1_000_000 + "://host/ns/m") == "host/ns/m:latest"
    assert names._parse.cache_info().currsize == before


_part = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=8)
_suffix = st.sampled_from(["", ":cloud", ":local", "-cloud"])
_spellings = st.one_of(
    st.text(),
    st.text("aZ0_-.:/@ cloudlocal"),
    st.builds("{}/{}/{}:{}{}".format, _part, _part, _part, _part, _suffix),
    st.builds("{}:{}{}".format, _part, _part, _suffix),
)


@given(_spellings)
def test_showing_a_name_never_changes_its_key(name: str) -> None:
    try:
        key = names.key(name)
    except InvalidName:
        return
    assert names.key(names.display(name)) == key
    assert names.key(key) == key
    assert names.key(name.upper()) == key
