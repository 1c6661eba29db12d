-- Several coordinators on one database: how they reach one another, and what all of them must have alike. Null: an older program's row.
alter table coordinator
  add column peer         text,                    -- HOST:PORT of its TLS port, as the others reach it
  add column certificate  text,                    -- SHA-256 of the certificate that it shows there, hex
  add column folder       text,                    -- names its data folder, which one process at a time holds
  add column shared       jsonb;                   -- what all must have alike -> a fingerprint, never the thing itself
create index session_opened on session (opened_at);
create index coordinator_living on coordinator (id) where ended_at is null;
