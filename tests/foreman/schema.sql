PRAGMA user_version = 1;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
) STRICT;
CREATE TABLE artifacts (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    size INTEGER NOT NULL,             -- bytes
    sha256 BLOB NOT NULL,
    inline INTEGER NOT NULL,           -- its bytes are in `results`, else in a file
    created_at INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifacts_in_files ON artifacts (job, attempt) WHERE inline = 0;
CREATE TABLE deliveries (
    message TEXT NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    seconds REAL,
    status INTEGER,                    -- HTTP; NULL when no answer came
    error TEXT,
    reply BLOB,                        -- the first 2 KB
    PRIMARY KEY (message, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE endpoints (
    url TEXT NOT NULL PRIMARY KEY,
    pending INTEGER NOT NULL CHECK (pending >= 0),
    due_at INTEGER,                    -- when to serve it next; NULL: nothing waits for it
    failures INTEGER NOT NULL,         -- attempts in a row
    failing_since INTEGER,             -- when the first of them was made
    held_until INTEGER NOT NULL,       -- its breaker is open until then
    lost INTEGER NOT NULL,             -- dead letters since its last success
    last_success_at INTEGER,
    disabled_at INTEGER,
    reason TEXT                        -- why it is disabled
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoints_due ON endpoints (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE events (
    seq INTEGER NOT NULL PRIMARY KEY,  -- in commit order, without gaps until retention
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    n INTEGER NOT NULL,                -- 1.. within the job, without gaps
    previous_seq INTEGER NOT NULL,     -- of the same job; 0 for its first
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    detail TEXT NOT NULL,              -- JSON: what this transition adds
    sum INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_of_job ON events (job, n);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,      -- ULID
    class TEXT NOT NULL CHECK (class IN ('interactive', 'batch')),
    endpoint TEXT NOT NULL,            -- /api/chat
    model TEXT NOT NULL,               -- as the client wrote it
    model_key TEXT NOT NULL,           -- normalised; with runner: the fingerprint
    runner TEXT NOT NULL,
    streamed INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    labels TEXT NOT NULL,              -- JSON object
    webhook TEXT,                      -- JSON object
    artifacts TEXT,                    -- inline | fetch
    expires_at INTEGER,
    owner TEXT NOT NULL,               -- the token's name; empty where none is asked for
    idempotency_key TEXT,
    idempotency_hash BLOB,             -- of the body
    submitted_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'loading', 'working', 'done', 'failed')),
    epoch INTEGER NOT NULL,            -- the boot that wrote the last transition
    version INTEGER NOT NULL,          -- transitions so far = n of the last event
    last_seq INTEGER NOT NULL,         -- global number of the last event
    attempt INTEGER NOT NULL,          -- 1 = first
    crashes INTEGER NOT NULL,          -- times the daemon died while running it
    not_before INTEGER NOT NULL,       -- backs off until then; 0 = due
    reason TEXT,                       -- of the last requeue, while queued
    claimed_at INTEGER,
    working_at INTEGER,
    finished_at INTEGER,
    resident INTEGER,                  -- was the model loaded when it was claimed?
    load_s REAL,
    tokens_in INTEGER,
    tokens_out INTEGER,
    incomplete INTEGER NOT NULL,
    error_code TEXT,
    error_message TEXT,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_class ON jobs (class);
CREATE INDEX jobs_by_model ON jobs (model_key);
CREATE INDEX jobs_by_owner ON jobs (owner);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_calling ON jobs (epoch) WHERE state = 'queued' AND class = 'interactive';
CREATE INDEX jobs_expiring ON jobs (expires_at)
    WHERE state = 'queued' AND expires_at IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE state IN ('done', 'failed');
CREATE INDEX jobs_oldest ON jobs (model_key, runner, id)
    WHERE state = 'queued' AND class = 'batch';
CREATE UNIQUE INDEX jobs_once ON jobs (owner, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (model_key, runner, priority DESC, id, not_before, state, class)
    WHERE state = 'queued' AND class = 'batch';
CREATE TABLE labels (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (name, value, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_of_job ON labels (job);
CREATE TABLE lanes (
    model_key TEXT NOT NULL,
    runner TEXT NOT NULL,
    queued INTEGER NOT NULL CHECK (queued >= 0),  -- batch jobs
    PRIMARY KEY (model_key, runner)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
    id TEXT NOT NULL PRIMARY KEY,      -- the webhook-id: msg_ and a ULID
    endpoint TEXT NOT NULL,            -- URL
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    body BLOB NOT NULL,                -- signed and sent exactly as stored
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts INTEGER NOT NULL,
    spent INTEGER NOT NULL,            -- those before the last replay: it began the schedule anew
    due_at INTEGER,                    -- NULL: settled, or behind another of its endpoint and job
    created_at INTEGER NOT NULL,
    settled_at INTEGER,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_by_state ON outbox (state);
CREATE INDEX outbox_due ON outbox (endpoint, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_line ON outbox (job, endpoint, seq);
CREATE INDEX outbox_of_endpoint ON outbox (endpoint, state);
CREATE INDEX outbox_of_event ON outbox (seq);
CREATE TABLE requests (
    job TEXT NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
CREATE TABLE results (
    job TEXT NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    status INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
CREATE TABLE store (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL,            -- starts of the daemon so far
    dirty INTEGER NOT NULL,            -- 1 while a daemon runs, or after it died
    seq INTEGER NOT NULL,              -- last event number given out
    pruned_seq INTEGER NOT NULL,       -- largest event number that retention took away
    queued INTEGER NOT NULL CHECK (queued >= 0)   -- the sum over `lanes`
) STRICT;
