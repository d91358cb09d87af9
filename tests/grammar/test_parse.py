"""The language: what it accepts comes back as it was written, and what it doesn't is answered with a lesson."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapool.catalogue.backbones import BACKBONES
from sapool.catalogue.poolings import POOLINGS
from sapool.errors import ArchitectureError, InputError
from sapool.grammar import parse, parser
from sapool.grammar.diagnosis import one_of
from sapool.ir.architecture import Architecture, PoolingSpec, Prepool
from tests.strategies import architectures, sloppy_spellings

MALFORMED = Path(__file__).parent / "malformed.txt"

# The examples of the language's reference, each with what it says.
EXAMPLES = {
    "prepool-nlp-4-resnet18-nlp-1222": Architecture(
        "resnet18", PoolingSpec("nlp"), (1, 2, 2, 2), prepool=Prepool(PoolingSpec("nlp"), 4)
    ),
    "mobilenet_v2-gaussian_pool-4222121": Architecture(
        "mobilenet", PoolingSpec("gaussian_pool"), (4, 2, 2, 2, 1, 2, 1), first_block=True
    ),
    "dyresnet18-nlp_headfix2_nowin_reduced-1222": Architecture(
        "resnet18", PoolingSpec("nlp", headfix=2, nowin=True, reduced=True), (1, 2, 2, 2), dynamic=True
    ),
    "resnet18-nlp_reduced0842-1222": Architecture(
        "resnet18", PoolingSpec("nlp", reduced=(0, 8, 4, 2)), (1, 2, 2, 2)
    ),
    "resnet18-skip-1222": Architecture("resnet18", PoolingSpec("skip"), (1, 2, 2, 2)),
    "mobilenet-skip-1222121": Architecture("mobilenet", PoolingSpec("skip"), (1, 2, 2, 2, 1, 2, 1)),
}  # fmt: skip


@pytest.mark.parametrize("text", EXAMPLES)
def test_example(text: str) -> None:
    assert parse(text) == EXAMPLES[text]
    assert str(EXAMPLES[text]) == text


@settings(deadline=None)
@given(architectures())
def test_text_and_architecture_give_each_other(architecture: Architecture) -> None:
    text = str(architecture)
    assert parse(text) == architecture
    assert str(parse(text)) == text
    assert hash(parse(text)) == hash(architecture)


@settings(deadline=None)
@given(st.data(), architectures())
def test_case_and_order_of_modifiers_do_not_matter(data: st.DataObject, architecture: Architecture) -> None:
    assert parse(data.draw(sloppy_spellings(architecture))) == architecture


WORDS = [
    *POOLINGS, *BACKBONES, "prepool", "dy", "_v2", "_headfix", "_nowin", "_reduced", "_", "-", "--", ".", ":", " ",
    "0", "2", "4", "1222", "1222121", "257", "4211", "PREPOOL-", "ResNet18-", "-1222", "prepool-nlp-4-", "x", "é", "４",
]  # fmt: skip


@settings(deadline=None)
@given(
    st.text()
    | st.binary().map(lambda raw: raw.decode("latin-1"))
    | st.lists(st.sampled_from(WORDS), max_size=12).map("".join)
    | st.lists(st.sampled_from(WORDS), max_size=8).map("-".join)
)
def test_any_text_parses_or_is_answered(text: str) -> None:
    if (error := refusal(text)) is not None:
        check_answer(error, text)


@settings(deadline=None)
@given(st.data(), architectures())
def test_any_slip_of_a_key_parses_or_is_answered(data: st.DataObject, architecture: Architecture) -> None:
    text = str(architecture)
    place, lost = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 1))
    mistyped = text[:place] + data.draw(st.text(alphabet="aelnox_-0129 é", max_size=1)) + text[place + lost :]
    if (error := refusal(mistyped)) is not None:
        check_answer(error, mistyped)


def refusal(text: str) -> ArchitectureError | None:
    """The error for a string, or None where it parses; any other exception is a failure."""
    try:
        parse(text)
    except ArchitectureError as error:
        return error
    return None


def check_answer(error: ArchitectureError, text: str) -> None:
    problem, shown, caret, *_ = str(error).splitlines()
    assert problem == error.problem
    assert shown.isascii()
    assert set(caret.strip()) == {"^"}
    assert error.text == text
    assert 0 <= error.start <= error.end <= len(text)
    if error.suggestion is not None:
        assert str(parse(error.suggestion)) == error.suggestion


@pytest.mark.parametrize("thing", [None, 1222, b"resnet18-nlp-1222", ["resnet18"]], ids=repr)
def test_what_is_no_string_is_answered(thing: object) -> None:
    with pytest.raises(ArchitectureError, match=f"an architecture is a string, not {type(thing).__name__}"):
        parse(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [501, 5_000, 5_000_000])
def test_endless_text_is_answered_briefly(length: int) -> None:
    with pytest.raises(ArchitectureError, match="at most 500 characters") as caught:
        parse("resnet18-nlp-".ljust(length, "2"))
    assert len(str(caught.value)) < 300


def test_errors_are_the_users() -> None:
    assert issubclass(ArchitectureError, InputError)
    assert issubclass(InputError, ValueError)


def test_errors_pickle() -> None:
    with pytest.raises(ArchitectureError) as caught:
        parse("resnet35-nlp-1222")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is ArchitectureError
    assert vars(copy) == vars(caught.value)
    assert str(copy) == str(caught.value)


def malformed() -> list[tuple[str, str]]:
    """Each malformed string of the table with its message.

    A block begins with `# ` and the string, as a Python literal where it would be hard to see plain.
    """
    blocks = re.split(r"^# ", MALFORMED.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    lines = [block.partition("\n") for block in blocks]
    return [(ast.literal_eval(s) if s.startswith("'") else s, message.rstrip("\n")) for s, _, message in lines]


def message_of(text: str) -> str:
    """The whole message, without the blanks that an editor would strip from the ends of lines."""
    with pytest.raises(ArchitectureError) as caught:
        parse(text)
    # The table doesn't name the poolings, so that another one leaves it as it is.
    said = str(caught.value).replace(one_of(POOLINGS), "<poolings>")
    return "\n".join(line.rstrip() for line in said.splitlines())


@pytest.mark.skipif("SAPOOL_UPDATE_GOLDEN" in os.environ, reason="the table is being written")
@pytest.mark.parametrize(("text", "message"), malformed(), ids=[ascii(text) for text, _ in malformed()])
def test_malformed_string(text: str, message: str) -> None:
    assert message_of(text) == message


def test_table_of_malformed_strings() -> None:
    """`SAPOOL_UPDATE_GOLDEN=1 pytest tests/grammar` writes the messages of the table's strings anew, to be reviewed."""
    texts = [text for text, _ in malformed()]
    if "SAPOOL_UPDATE_GOLDEN" in os.environ:
        plain = re.compile(r"[!-&(-~]([ -~]*[!-~])?")
        blocks = [f"# {t if plain.fullmatch(t) else ascii(t)}\n{message_of(t)}\n" for t in texts]
        MALFORMED.write_text("\n".join(blocks), encoding="utf-8")
    assert len(texts) >= 45
    assert len(texts) == len(set(texts))


def test_grammar_and_catalogue_have_the_same_kinds() -> None:
    pattern = parser().get_terminal("KIND").pattern.to_regexp()
    assert set(re.findall(r"[a-z0-9_]+", pattern)) == set(POOLINGS)


def test_grammar_is_strict() -> None:
    # Lark in strict mode refuses to build a grammar whose terminals collide.
    assert parser(strict=True).options.strict
    assert parser().options.parser == "lalr"


def test_front_needs_no_torch() -> None:
    program = (
        "import sys, sapool, sapool.grammar\n"
        "assert str(sapool.parse('ResNet18-NLP-1222')) == 'resnet18-nlp-1222'\n"
        "print(*sorted({'torch', 'torchvision', 'numpy', 'networkx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
