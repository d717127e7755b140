"""Messages of the API name the options of the command line."""

import pytest

from deploy.cli.wording import name_options
from shared.contract.errors import ApiError
from shared.contract.not_published import build_existing_not_published
from shared.contract.run_at import REQUEST_MESSAGES
from shared.spreadsheets.file_types import refuse_other_types


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            (
                f"{REQUEST_MESSAGES.missing_offset}, or import with the parameter timezone, or "
                "pinflow import --timezone"
            ),
            f"{REQUEST_MESSAGES.missing_offset}, or import with --timezone",
        ),
        (
            (
                "account_id is not needed if the import names one account for all rows, with the "
                "parameter account or pinflow import --account."
            ),
            (
                "account_id is not needed if the import names one account for all rows, with "
                "--account."
            ),
        ),
        (
            "Correct the URL in your file, and import it with on_existing=update.",
            "Correct the URL in your file, and import it with --on-existing update.",
        ),
        (
            "If it is not there, retry it with ?may_double=true.",
            "If it is not there, retry it with --may-double.",
        ),
        ("Choose a later time.", "Choose a later time."),
    ],
)
def test_parameters_become_options(message: str, shown: str) -> None:
    assert name_options(message) == shown


def test_the_warning_about_pins_that_are_not_published_names_options() -> None:
    shown = name_options(build_existing_not_published([1]).message)
    assert "import the rows with --on-existing revive; to publish" in shown
    assert "to publish failed ones, with --on-existing update." in shown


def test_the_refusal_of_json_names_the_format() -> None:
    with pytest.raises(ApiError) as refused:
        refuse_other_types(b'{"rows": []}')
    shown = name_options(refused.value.message)
    assert shown.endswith("The file is JSON, not CSV. Import it with --format json.")
