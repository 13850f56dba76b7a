"""The tables as this version reads and writes them. Knows no statement; how they came about is in `migrations/`.

Rules that must hold even if a statement is wrong stand here as constraints: a charge's primary key is its job, an
account never holds more than its quota, a job never leaves an end state (but for losing its idempotency key when
its life is over), and a charge is never changed.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

OPEN = ("accepted", "queued", "running")
ENDED = ("succeeded", "failed", "cancelled")

job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("api", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("idem_key", Text),
    Column("req_hash", Text, nullable=False, server_default=""),
    Column("brief", Text, nullable=False),
    Column("body_ref", Text),  # the request's references as given, of a job still in `accepted`
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("crash_count", Integer, nullable=False, server_default="0"),
    Column("lease_token", Text),  # stays after the end: it tells a repeated answer from a stale one
    Column("lease_until", Float),  # monotonic seconds of the boot named in `mark`
    Column("lease_worker", Text),
    Column("lease_run", Text),  # the server run that granted or last extended the lease
    Column("rank", Float, nullable=False),  # where its turn is among all tenants' jobs
    Column(
        "deadline", Float, nullable=False
    ),  # monotonic seconds, as lease_until; of the queue, then of the run
    Column("queue_seconds", Float, nullable=False),
    Column("run_seconds", Float, nullable=False),
    Column("cost", Float, nullable=False),
    Column("step", Integer, nullable=False, server_default="0"),
    Column("step_total", Integer, nullable=False, server_default="0"),
    Column("hold_images", Integer, nullable=False),
    Column("result", Text),
    Column("error_code", Text),
    Column("error_msg", Text),
    Column("out_hash", Text),  # SHA-256 over the digests of the pictures, in order
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("expires", Float),
    Column("request_id", Text),  # of the request, on jobs whose callers come back for them
    Column("key_id", Text, nullable=False, server_default=""),
    Column("lost", Text),  # pictures that a succeeded job could not deliver, and why
    Column("said", Text),  # the prompt as rewritten, and texts between the pictures
    Column("priority", Integer, nullable=False, server_default="0"),  # higher first among the tenant's own
    Column("place", Float, nullable=False, server_default="0"),  # first rank: among equal priorities
    Column("turn", Float, nullable=False, server_default="0"),  # at equal ranks; goes with the rank
    CheckConstraint(
        "state IN ('accepted', 'queued', 'running', 'succeeded', 'failed', 'cancelled')",
        name="job_state_known",
    ),
    UniqueConstraint("tenant", "idem_key", name="job_idempotency"),
)
_OPEN_ONLY = text("state IN ('accepted', 'queued', 'running')")
Index("job_open", job.c.rank, job.c.turn, sqlite_where=_OPEN_ONLY, postgresql_where=_OPEN_ONLY)
# A tenant's own open jobs: the order in which they go, and the turns that they have between them.
for _name, _order in (("job_line", ("priority", "place", "created")), ("job_turns", ("rank", "turn"))):
    Index(
        _name,
        *(job.c[column] for column in ("tenant", *_order)),
        sqlite_where=_OPEN_ONLY,
        postgresql_where=_OPEN_ONLY,
    )
_RUNNING = text("state = 'running'")
Index("job_held", job.c.lease_worker, sqlite_where=_RUNNING, postgresql_where=_RUNNING)
_HAS_TOKEN = text("lease_token IS NOT NULL")
Index("job_token", job.c.lease_token, unique=True, sqlite_where=_HAS_TOKEN, postgresql_where=_HAS_TOKEN)
_HAS_EXPIRES = text("expires IS NOT NULL")
Index("job_expires", job.c.expires, sqlite_where=_HAS_EXPIRES, postgresql_where=_HAS_EXPIRES)
_CRASHED = text("state = 'failed' AND crash_count > 0")
Index("job_crashed", job.c.tenant, job.c.req_hash, sqlite_where=_CRASHED, postgresql_where=_CRASHED)

# Jobs that can be listed: all of a tenant, those of one model, those in one state.
_LISTED = text("request_id IS NOT NULL")
for _name, _by in (("job_listed", ()), ("job_listed_model", ("model",)), ("job_listed_state", ("state",))):
    Index(
        _name,
        *(job.c[column] for column in ("tenant", *_by, "created", "id")),
        sqlite_where=_LISTED,
        postgresql_where=_LISTED,
    )

tally = Table(
    "tally",  # how many listed jobs, by quarter of an hour: kept by triggers, so that a list's length needs no count
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("quarter", Integer, primary_key=True),  # wall seconds of creation / 900
    Column("model", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("jobs", Integer, nullable=False),
)

job_input = Table(
    "job_input",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
)
Index("job_input_key", job_input.c.key)

account = Table(
    "account",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("quota", Integer),  # NULL is unlimited
    Column("held", Integer, nullable=False, server_default="0"),
    Column("used", Integer, nullable=False, server_default="0"),
    CheckConstraint(
        "held >= 0 AND used >= 0 AND (quota IS NULL OR held + used <= quota)", name="account_within_quota"
    ),
)

charge = Table(
    "charge",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("images", Integer, nullable=False),
    Column("amount", Integer, nullable=False),
    Column("created", Float, nullable=False),
)
Index("charge_tenant", charge.c.tenant, charge.c.created)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("next_at", Float, nullable=False),
    Column("state", Text, nullable=False),
    CheckConstraint("state IN ('pending', 'delivered', 'dead')", name="outbox_state_known"),
    UniqueConstraint("job_id", "event", name="outbox_once"),
)
_PENDING = text("state = 'pending'")
Index("outbox_pending", outbox.c.next_at, sqlite_where=_PENDING, postgresql_where=_PENDING)

api_key = Table(
    "api_key",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
    Column("region", Text, nullable=False, server_default=""),  # empty: this installation's own
    Column("workspace", Text, nullable=False, server_default=""),  # empty: the whole account (the tenant)
    Column("priority", Integer, nullable=False, server_default="0"),  # of the jobs that come by it
)
Index("api_key_workspace", api_key.c.tenant, api_key.c.workspace)

upload = Table(
    "upload",  # files that callers sent ahead, under the names by which their orders will call them
    metadata,
    Column("key", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("blob", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("digest", Text, nullable=False),  # SHA-256 of the bytes: the same file may come twice
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    UniqueConstraint("blob", name="upload_blob"),
)
Index("upload_tenant", upload.c.tenant, upload.c.size)
Index("upload_expires", upload.c.expires)

mark = Table(
    "mark",  # facts about the file itself, such as the boot its monotonic times belong to
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
