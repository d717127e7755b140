"""The base class of the HTTP models."""

from pydantic import BaseModel, ConfigDict


class ApiModel(BaseModel):
    """An HTTP model. The text below a field is the field's description in the OpenAPI document."""

    model_config = ConfigDict(use_attribute_docstrings=True)
