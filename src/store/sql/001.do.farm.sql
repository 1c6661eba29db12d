-- The farm's state. Times come from the coordinator's clock. Append-only: a change is a new numbered file.

-- One row per coordinator process. Alive while seen_at is recent.
create table coordinator (
  id          text primary key,                    -- P and 9 hex digits
  host        text not null,
  pid         integer not null,
  version     text not null,
  started_at  timestamptz not null,
  seen_at     timestamptz not null,
  ended_at    timestamptz
);

-- A named kind of machine. Kept in step with the configuration whenever that is loaded; the claim reads trust and drain here.
create table host_type (
  name        text primary key,
  trust       text not null check (trust in ('team', 'community')),
  expect      integer not null default 0,
  configured  boolean not null,                    -- false: a machine registered with it, the configuration does not have it
  drained_at  timestamptz,
  drain_note  text
);

-- A key of one machine's own. Only its SHA-256 is kept.
create table machine_key (
  id           text primary key,                   -- K and 9 hex digits, printed and listed
  host_type    text not null,
  machine      text not null,
  sha256       bytea not null unique,
  made_at      timestamptz not null,
  expires_at   timestamptz,
  revoked_at   timestamptz,
  last_used_at timestamptz
);

-- A machine outlives its connections.
create table machine (
  id            bigint generated always as identity primary key,
  host_type     text not null references host_type (name),
  name          text not null,
  owner         text,
  key_id        text references machine_key (id),  -- null: it came with the shared key of its type
  first_seen_at timestamptz not null,
  last_seen_at  timestamptz not null,
  agent         text not null,                     -- 'barnraiser' or 'original'
  version       integer not null,                  -- the buildlet protocol version
  agent_digest  text,                              -- SHA-256 of our own agent program; null for the original
  platform      text,                              -- 'linux/amd64 Debian 12, 4 cores, 8 GiB' as it reported it
  address       text not null,
  drained_at    timestamptz,
  drain_note    text,
  unique (host_type, name)
);

-- What a machine reported differently from before: version, platform, address, agent.
create table machine_change (
  machine_id  bigint not null references machine (id),
  at          timestamptz not null,
  field       text not null,
  was         text,
  became      text
);
create index machine_change_of on machine_change (machine_id, at desc);

-- One connection of a machine, from dialling in to hanging up.
create table session (
  id             text primary key,                 -- 32 hex digits
  machine_id     bigint not null references machine (id),
  coordinator_id text not null references coordinator (id),
  address        text not null,
  opened_at      timestamptz not null,
  closed_at      timestamptz,
  close_reason   text                              -- what an owner reads: 'hung up', 'missed 2 keep-alives', ...
);
create index session_of_machine on session (machine_id, opened_at desc);
create index session_open on session (coordinator_id) where closed_at is null;

-- A claim on one machine. The only thing that the scheduler knows.
create table lease (
  id             bigint generated always as identity primary key,
  kind           text not null,                    -- whom to tell when it is claimed: 'build'
  class          smallint not null,                -- 0 gomote, 1 try, 2 post-submit, 3 background
  queue          text not null,                    -- a host type
  provenance     text not null check (provenance in ('submitted', 'reviewed', 'unreviewed')),
  rank           bigint not null,                  -- lower goes first within a class
  wanted_at      timestamptz not null,
  starves_at     timestamptz not null,             -- from then on it goes before anything that does not starve
  state          text not null default 'wanted' check (state in ('wanted', 'held', 'ended')),
  avoid          bigint[] not null default '{}',   -- machines that should not take it ...
  avoid_until    timestamptz,                      -- ... before then ("elsewhere first")
  session_id     text references session (id),
  machine_id     bigint references machine (id),
  coordinator_id text references coordinator (id),
  held_at        timestamptz,
  ended_at       timestamptz,
  end_reason     text
);
create index lease_in_order on lease (queue, class, rank, id) where state = 'wanted';
create index lease_starving on lease (queue, starves_at, id) where state = 'wanted';
create unique index lease_one_per_session on lease (session_id) where state = 'held';
create index lease_of_machine on lease (machine_id, held_at desc) where machine_id is not null;

-- What source/ knows of each repository and its watched branches.
create table repo (
  name        text primary key,
  url         text not null,
  fetched_at  timestamptz,                         -- last time that the remote answered
  error       text,                                -- why the last fetch failed; null when it did not
  error_since timestamptz
);
create table branch (
  repo        text not null references repo (name),
  name        text not null,
  head        text not null,
  moved_at    timestamptz not null,
  primary key (repo, name)
);
create table commit (
  id           bigint generated always as identity primary key,
  repo         text not null references repo (name),
  hash         text not null,
  parents      text[] not null,
  author_name  text not null,
  author_email text not null,
  committed_at timestamptz not null,
  message      text not null,                      -- whole, the subject is its first line
  found_at     timestamptz not null,
  unique (repo, hash)
);
-- First-parent history of a branch; the highest position is its head. A forced push replaces the tail.
create table branch_commit (
  repo       text not null,
  branch     text not null,
  position   bigint not null,
  commit_id  bigint not null references commit (id),
  primary key (repo, branch, position),
  foreign key (repo, branch) references branch (repo, name)
);
create index branch_commit_of on branch_commit (commit_id);

-- What a builder was when a build was planned; stored once per content.
create table recipe (
  digest text primary key,                         -- SHA-256 of body, hex
  body   jsonb not null                            -- farm/build.ts Recipe
);

create table build (
  id             bigint generated always as identity primary key,
  repo           text not null references repo (name),
  commit_id      bigint not null references commit (id),
  branch         text not null,
  builder        text not null,
  host_type      text not null,
  recipe         text not null references recipe (digest),
  provenance     text not null check (provenance in ('submitted', 'reviewed', 'unreviewed')),
  class          smallint not null,
  state          text not null default 'scheduled' check (state in ('scheduled', 'running', 'ended')),
  outcome        text check (outcome in ('success', 'failure', 'infra_failure', 'canceled')),
  reason         text,                             -- why it ended as it did, when the outcome alone does not say
  failed_step    text,
  requested_by   text,                             -- null: planned by the farm; else who asked for this rebuild
  rebuild_of     bigint references build (id),
  created_at     timestamptz not null,
  started_at     timestamptz,                      -- first command of the attempt that counts
  ended_at       timestamptz,
  check ((state = 'ended') = (outcome is not null))
);
create unique index build_once on build (commit_id, builder, recipe) where rebuild_of is null; -- planning twice is harmless
create index build_cell on build (commit_id, builder, id desc);
create index build_of_builder on build (repo, builder, id desc);
create index build_open on build (id) where state <> 'ended';
create index build_ended on build (ended_at desc) where state = 'ended';

create table attempt (
  id          bigint generated always as identity primary key,
  build_id    bigint not null references build (id),
  number      integer not null,                    -- 1, 2, ...
  lease_id    bigint not null references lease (id),
  machine_id  bigint references machine (id),
  state       text not null default 'waiting' check (state in ('waiting', 'running', 'ended')),
  outcome     text check (outcome in ('success', 'failure', 'infra_failure', 'canceled')),
  reason      text,
  counts      boolean not null default true,       -- false: the coordinator's own restart ended it; not charged to the retry budget
  created_at  timestamptz not null,
  started_at  timestamptz,
  ended_at    timestamptz,
  unique (build_id, number)
);
create unique index attempt_of_lease on attempt (lease_id);
create index attempt_of_machine on attempt (machine_id, id desc) where machine_id is not null;

-- Output of one step, whole and in order. Compressed chunks; `at` and `line` are the byte and the line that a chunk begins with.
create table log (
  id         bigint generated always as identity primary key,
  length     bigint not null default 0,            -- bytes stored so far
  lines      bigint not null default 0,            -- LF stored so far
  ended      boolean not null default false,
  truncated  boolean not null default false        -- the command wrote more than the limit
);
create table log_chunk (
  log_id  bigint not null references log (id),
  at      bigint not null,
  line    bigint not null,
  length  integer not null,                        -- bytes when unpacked
  packed  boolean not null,                        -- data is one zstd frame; otherwise as it came
  data    bytea not null,
  primary key (log_id, at)
);
alter table log_chunk alter column data set storage external;
create index log_chunk_line on log_chunk (log_id, line, at);

-- A step has a row from the moment its attempt begins, so that a page shows what is still to come.
create table step (
  attempt_id  bigint not null references attempt (id),
  number      integer not null,                    -- 0, 1, ...; 'source' (writing the tree) is step 0
  name        text not null,
  log_id      bigint references log (id),          -- null until it started
  status      text,                                -- Process-State: 'ok', 'exit status 2', ...; null until it ended
  outcome     text check (outcome in ('success', 'failure', 'infra_failure', 'canceled')),
  started_at  timestamptz,
  ended_at    timestamptz,
  primary key (attempt_id, number)
);

-- Who did what to whom: rebuild, cancel, drain, resume, revoke, login.
create table audit (
  id      bigint generated always as identity primary key,
  at      timestamptz not null,
  who     text not null,
  action  text not null,
  subject text not null,
  detail  text
);
