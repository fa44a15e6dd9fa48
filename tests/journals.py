"""What the journal of a run holds, for tests that compare runs."""

import json
from collections import Counter

from chameleon_ray.measure import Purpose
from chameleon_ray.records import read_records


def rows(run):
    """How often each measurement of the budget stands in the journal, with how it came out."""
    return Counter(
        (m.task, json.dumps(m.config, sort_keys=True), m.outcome, m.repeat_seconds)
        for m in (record.measurement for record in read_records(run)[0])
        if m.purpose in (Purpose.DEFAULT, Purpose.SEARCH)
    )
