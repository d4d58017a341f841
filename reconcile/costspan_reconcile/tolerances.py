"""What a difference may be before someone has to look at it. Money stays exact all the same."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False)]


class Tolerances(BaseSettings):
    """Of a line, a day and a period, both must be exceeded: the dollars and the share of the bill."""

    model_config = SettingsConfigDict(env_prefix="COSTSPAN_TOLERANCE_", frozen=True)

    line_usd: Usd = Decimal("0.01")
    line_share: Share = Decimal("0.01")
    day_usd: Usd = Decimal(1)
    day_share: Share = Decimal("0.01")
    period_usd: Usd = Decimal(5)
    period_share: Share = Decimal("0.005")
    rate_usd: Usd = Decimal(10)
    """From so many billed dollars on, a price that differs by more than `rate_share` is always
    reported: the price book is old."""
    rate_share: Share = Decimal("0.001")
    unattributed_share: Share = Decimal("0.05")
    """More than this of a bill without an owner is an alarm."""
