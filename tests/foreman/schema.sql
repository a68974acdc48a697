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
    size INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;
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
    idempotency_owner TEXT,            -- the token's name
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
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_calling ON jobs (epoch) WHERE state = 'queued' AND class = 'interactive';
CREATE INDEX jobs_expiring ON jobs (expires_at)
    WHERE state = 'queued' AND expires_at IS NOT NULL;
CREATE INDEX jobs_oldest ON jobs (model_key, runner, id)
    WHERE state = 'queued' AND class = 'batch';
CREATE UNIQUE INDEX jobs_once ON jobs (idempotency_owner, idempotency_key)
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
    due_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    settled_at INTEGER,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox (due_at) WHERE state = 'pending';
CREATE INDEX outbox_line ON outbox (endpoint, job, seq);
CREATE INDEX outbox_of_event ON outbox (seq);
CREATE INDEX outbox_of_job ON outbox (job);
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
    queued INTEGER NOT NULL CHECK (queued >= 0)   -- the sum over `lanes`
) STRICT;
