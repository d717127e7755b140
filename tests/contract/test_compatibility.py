"""Each method of PinBridge's client has a test that shows that it works, or answers 501."""

from pinbridge_sdk import AsyncPinbridgeClient

from services.status.unsupported import AREAS
from tests.contract.compatibility import (
    DOCUMENT,
    SDK,
    SUPPORTED,
    UNSUPPORTED,
    build_document_text,
    find_named_tests,
    find_tests_by_method,
)
from tests.support.sdk import read_operations


def test_every_method_of_the_client_is_supported_or_answers_501() -> None:
    assert {
        name for name, operation in SDK.items() if operation not in SUPPORTED | UNSUPPORTED
    } == set()


def test_no_operation_is_both_supported_and_unsupported() -> None:
    assert not SUPPORTED & UNSUPPORTED


def test_every_unsupported_operation_is_one_of_the_client() -> None:
    assert set(SDK.values()) >= UNSUPPORTED


def test_the_asynchronous_client_calls_the_same_operations() -> None:
    assert read_operations(AsyncPinbridgeClient) == SDK


def test_every_supported_method_is_called_by_a_test() -> None:
    tests = find_tests_by_method()
    assert {
        name for name, operation in SDK.items() if operation in SUPPORTED and name not in tests
    } == set()


def test_the_document_is_up_to_date_and_names_existing_tests() -> None:
    committed = DOCUMENT.read_text(encoding="utf-8")
    assert committed == build_document_text(), "run python -m tests.contract.compatibility"
    tests = list(find_named_tests(committed))
    assert len(tests) == len(SDK)
    for file, name in tests:
        assert f"def {name}(" in file.read_text(encoding="utf-8")


def test_the_document_lists_the_unsupported_operations() -> None:
    committed = DOCUMENT.read_text(encoding="utf-8")
    for area in AREAS:
        paths = ", ".join(f"`{path}`" for path in area.paths.split(", "))
        assert f"| {area.feature} | {paths} | {area.alternative} |" in committed
