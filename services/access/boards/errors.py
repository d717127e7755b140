"""Builds the errors of boards."""

from http import HTTPStatus

from shared.contract.errors import ApiError, ErrorCode


def board_not_found() -> ApiError:
    message = "Board not found. GET /v1/pinterest/boards lists the boards of an account."
    return ApiError(ErrorCode.BOARD_NOT_FOUND, message, HTTPStatus.NOT_FOUND)
