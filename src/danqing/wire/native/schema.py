"""The JSON of our own routes, for the OpenAPI page. Knows no other dialect."""

from __future__ import annotations

from pydantic import BaseModel, Field

from danqing.core.job import Contract, State


class Picture(BaseModel):
    """A stored picture of a job."""

    index: int = Field(description="its place among those that were asked for, from 0")
    url: str = Field(description="a link that needs no key")


class Made(BaseModel):
    """How pictures were made."""

    contract: Contract = Field(
        description="exact: as the checkpoint's own pipeline makes them; narrowed: in numbers of fewer bits"
    )
    checkpoint: str = Field(description="of the profile")
    preset: str = Field(description="of the profile")
    steps: int = Field(description="denoising steps of each picture")


class Standing(BaseModel):
    """A job as it stands."""

    id: str
    state: State
    position: int | None = Field(description="its place among all jobs that wait, 1 for the next")
    step: int = Field(description="denoising steps that are done, of all pictures together")
    steps: int = Field(description="0 until they are known")
    eta: float | None = Field(description="seconds until the job is done, as predicted")
    images: list[Picture]
    code: str | None = Field(None, description="of a job that failed")
    message: str | None = Field(None, description="of a job that failed")
    quality: Made | None = Field(None, description="of a job that succeeded")


class Failure(BaseModel):
    """A request that was refused."""

    code: str
    message: str
    request_id: str
