-- A task store as diarserve 0.1.0 left it (commit 11fcf0f), dumped by sqlite3's iterdump: a task of each status.
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE documents (
        task INTEGER PRIMARY KEY REFERENCES tasks (seq) ON DELETE CASCADE,
        document BLOB NOT NULL
    );
INSERT INTO "documents" VALUES(2,X'7B2274657874223A202248656C6C6F2E227D');
CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, -- order of acceptance
        id TEXT NOT NULL UNIQUE,
        filename TEXT NOT NULL,
        options TEXT NOT NULL, -- JSON
        priority INTEGER NOT NULL, -- index in PRIORITIES
        batch_id TEXT,
        position INTEGER NOT NULL,
        idempotency_key TEXT,
        status TEXT NOT NULL DEFAULT 'queued',
        created_at REAL NOT NULL,
        started_at REAL,
        finished_at REAL,
        attempts INTEGER NOT NULL DEFAULT 0,
        error TEXT, -- JSON
        callback_url TEXT,
        callback_state TEXT, -- due, sent, given up
        callback_at REAL,
        callback_attempts INTEGER NOT NULL DEFAULT 0
    );
INSERT INTO "tasks" VALUES(1,'expired','expired.wav','{"language":"en"}',1,NULL,0,NULL,'expired',1790000001.0,1790000002.0,1790000003.0,1,NULL,NULL,NULL,NULL,0);
INSERT INTO "tasks" VALUES(2,'completed','completed.wav','{"language":"en"}',1,NULL,0,NULL,'completed',1790000005.0,1790000006.0,1790000007.0,1,NULL,'https://example.org:8443/hook','due',1790000100.0,1);
INSERT INTO "tasks" VALUES(3,'failed','failed.wav','{"language":"en"}',1,NULL,0,NULL,'failed',1790000008.0,1790000009.0,1790000010.0,1,'{"status":422,"code":"undecodable","message":"No recording."}',NULL,NULL,NULL,0);
INSERT INTO "tasks" VALUES(4,'cancelled','cancelled.wav','{"language":"en"}',1,NULL,0,NULL,'cancelled',1790000011.0,NULL,1790000012.0,0,NULL,NULL,NULL,NULL,0);
INSERT INTO "tasks" VALUES(5,'processing','processing.wav','{"language":"en"}',1,NULL,0,NULL,'processing',1790000013.0,1790000014.0,NULL,1,NULL,NULL,NULL,NULL,0);
INSERT INTO "tasks" VALUES(6,'queued-1','queued-1.wav','{"language":"en"}',2,'batch',0,'a key','queued',1790000015.0,NULL,NULL,0,NULL,NULL,NULL,NULL,0);
INSERT INTO "tasks" VALUES(7,'queued-2','queued-2.wav','{"language":"en"}',2,'batch',1,'a key','queued',1790000015.0,NULL,NULL,0,NULL,NULL,NULL,NULL,0);
CREATE TABLE totals (
        status TEXT PRIMARY KEY,
        tasks INTEGER NOT NULL,
        audio_seconds REAL NOT NULL,
        processing_seconds REAL NOT NULL
    );
INSERT INTO "totals" VALUES('completed',2,31.0,2.5);
INSERT INTO "totals" VALUES('failed',1,0.0,0.0);
INSERT INTO "totals" VALUES('cancelled',1,0.0,0.0);
CREATE INDEX tasks_queue ON tasks (status, priority, seq);
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX tasks_batch ON tasks (batch_id, position) WHERE batch_id IS NOT NULL;
CREATE INDEX tasks_key ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_callback ON tasks (callback_at) WHERE callback_state = 'due';
COMMIT;
