"""What a person may set under `[plugins.http]`."""

from __future__ import annotations

import attrs
from attrs import frozen
from attrs.validators import and_, ge, gt, le

#: Seconds; the system's waits take no more than some hundred years.
_LONGEST = 10**8


@frozen
class Settings:
    """Settings of the plugin.

    Attributes:
        connect_timeout: Seconds until a connection must stand.
        read_timeout: Seconds that a server may keep silent. Headers must be complete within twice as
            long, and so must redirects.
        min_rate: Bytes a second that a body must bring, on the average of twice `read_timeout`, or it
            counts as broken off; 0 for any.
        retries: How often one fetch is tried again after a passing failure. A broken download that
            got on by a MiB or more begins to count anew.
        backoff: Seconds before the second retry (the first follows at once); doubles with each.
        backoff_max: Longest such wait, in seconds.
        retry_after_max: Longest wait that a server may ask for by `Retry-After`, in seconds. If it
            asks for more, the fetch ends, and the run is tried again after that wait.
        redirects: How many redirects are followed.
        user_agent: What the requests call themselves.
    """

    connect_timeout: float = attrs.field(default=10.0, validator=and_(gt(0), le(_LONGEST)))
    read_timeout: float = attrs.field(default=30.0, validator=and_(gt(0), le(_LONGEST)))
    min_rate: float = attrs.field(default=100.0, validator=ge(0))
    retries: int = attrs.field(default=3, validator=ge(0))
    backoff: float = attrs.field(default=0.3, validator=and_(ge(0), le(_LONGEST)))
    backoff_max: float = attrs.field(default=30.0, validator=and_(ge(0), le(_LONGEST)))
    retry_after_max: float = attrs.field(default=30.0, validator=and_(ge(0), le(_LONGEST)))
    redirects: int = attrs.field(default=10, validator=ge(0))
    user_agent: str = "aero"
