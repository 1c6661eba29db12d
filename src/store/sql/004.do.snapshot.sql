-- Trees of builds after their steps, packed, in blobs/. A row is there once all of its blob is; a blob without a row is nobody's.

create table snapshot (
  blob           text primary key,                 -- its key in blobs/, which ends in the SHA-256 of its bytes
  commit_id      bigint not null references commit (id),
  builder        text not null,
  make           text not null,                    -- digest of all in the recipe that decides what the tree becomes
  bytes          bigint not null,
  sha256         text not null,                    -- hex
  coordinator_id text not null references coordinator (id), -- whose blobs/ it was written to
  build_id       bigint not null,                  -- of whose attempt it is; the build may be deleted before
  machine        text not null,                    -- the name of the machine that made it
  made_at        timestamptz not null,
  used_at        timestamptz,
  uses           integer not null default 0,
  expires_at     timestamptz not null,
  unique (commit_id, builder, make)
);
create index snapshot_expiring on snapshot (expires_at);

-- What became of the snapshot of this attempt's tree, for people: kept, or why not. null: there was to be none, or it is under way.
alter table attempt add column snapshot_note text;
