"""Defines why the access service hands out no token. No I/O.

AccountGivenUp    only the account's user can mend it: pause the account
TokenUnavailable  this account has to wait; the tokens of others may be fine
AccessAway        the access service can't be reached, is not ready, or is set up for another mode:
                  nothing works
"""

from shared.contract.errors import ApiError, Unavailable


class AccountGivenUp(ApiError):
    """The account is not connected any more, or Pinterest accepts its tokens no more.

    `code` is token_revoked, token_expired or account_not_connected.
    """


class TokenUnavailable(Unavailable):
    """The account's token can't be refreshed or read now, or access did not answer in time."""


class AccessAway(Unavailable):
    """No access service can be reached, or it hands out no tokens at all."""
