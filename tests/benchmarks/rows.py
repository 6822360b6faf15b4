"""Every row of the table of transfers, and every set that is only evaluated on.

A row says which image sizes its transfer has numbers for, and which data sets it reads: those of
`tools/prepare.py` that have a fixture `make_NAME.py` here, with the options to prepare them for the
tiny model.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """One transfer."""

    res: tuple[int, ...] = (224, 448)
    data: dict[str, dict] = {}
    trains: bool = True


FRAMES = {"frames": 2, "stride": 3}

ROWS = {
    "activitynet_cap": Row((224,), {"activitynet_cap": FRAMES}),
    "activitynet_qa": Row((224,), {"activitynet_qa": FRAMES}),
    "marvl": Row(data={"marvl": {}}, trains=False),
    "msrvtt_cap": Row((224,), {"msrvtt_cap": FRAMES}),
    "msrvtt_qa": Row((224,), {"msrvtt_qa": FRAMES}),
    "msvd_qa": Row((224,), {"msvd_qa": FRAMES}),
    "nlvr2": Row(data={"nlvr2": {}}),
    "vatex_cap": Row((224,), {"vatex_cap": FRAMES}),
    "vqav2": Row(data={"vqav2": {}}),
    "cococap": Row(data={"cococap": {}}),
    "nocaps": Row(data={"nocaps": {}}, trains=False),
    "refcoco_seg": Row((224, 448, 896), {"refcoco_seg": {"tiny": True}}),
}
