-- The tests of a build, shared by all the machines that work for it.

-- One row per build whose tests were listed. Whoever changes tests of the build holds this row's lock, and keeps the sums.
create table test_run (
  build_id     bigint primary key references build (id),
  listed_at    timestamptz not null,
  total        integer not null,
  waiting      integer not null,
  running      integer not null default 0,
  failed       integer not null default 0,         -- 'failure' and 'unschedulable'
  flaky        integer not null default 0,
  known_ms     bigint not null,                    -- what the waiting tests are expected to take, of those that ran before ...
  unknown      integer not null,                   -- ... and how many of them never did
  learned      integer not null default 0,         -- tests that never ran before and did here ...
  learned_ms   bigint not null default 0,          -- ... and what they took together
  stopped      boolean not null default false,     -- nothing new is begun: a test failed, and the builder does not keep going
  helpers_from timestamptz,                        -- from then on helpers find what they start from
  ended_at     timestamptz                         -- the verdict was written
);

-- One run of some tests by one command on one machine.
create table test_group (
  id         bigint generated always as identity primary key,
  build_id   bigint not null references build (id),
  lease_id   bigint not null references lease (id),
  machine_id bigint not null references machine (id),
  log_id     bigint not null references log (id),
  tests      integer[] not null,                   -- numbers
  nonce      text not null,                        -- what its command signs its markers with
  state      text not null default 'running' check (state in ('running', 'ended')),
  status     text,                                 -- Process-State of its command, or why there is none
  reports_removed boolean,                         -- those of earlier groups, before its command begins; false: not all; null: not yet
  started_at timestamptz not null,
  ended_at   timestamptz
);
create index test_group_running on test_group (build_id) where state = 'running';
create index test_group_of_lease on test_group (lease_id);
create index test_group_of_log on test_group (log_id);
create index test_group_of_build on test_group (build_id, id);

create table test (
  build_id     bigint not null references build (id),
  number       integer not null,                   -- 1, 2, ... as listed
  name         text not null,
  expected_ms  integer,                            -- null: nobody ran it before
  state        text not null default 'waiting' check (state in ('waiting', 'running', 'ended')),
  outcome      text check (outcome in ('success', 'failure', 'flaky', 'skipped', 'unschedulable')),
  alone        boolean not null default false,     -- in a group of its own from now on
  failures     smallint not null default 0,
  losses       smallint not null default 0,        -- machines that went away or broke while they ran it, or did not tell in time how it went
  avoid        bigint,                             -- the machine that it failed on, or was lost with, which should not take it again ...
  avoid_until  timestamptz,                        -- ... before then
  group_id     bigint references test_group (id),  -- the one that runs it, or ran it last
  duration_ms  integer,
  from_byte    bigint,                             -- its place in the log of that group
  to_byte      bigint,
  failed_group bigint references test_group (id),  -- where it failed first
  failed_from  bigint,
  failed_to    bigint,
  primary key (build_id, number),
  check ((state = 'ended') = (outcome is not null))
);
create index test_waiting on test (build_id, expected_ms desc nulls last, number) where state = 'waiting';
create index test_avoiding on test (build_id, avoid_until) where state = 'waiting' and avoid is not null;
create index test_running on test (build_id, number) where state = 'running';
create index test_of_outcome on test (build_id, outcome, number);

-- What the log of the tests' step is to tell and does not have yet; see store/test-lines.ts.
create table test_line (
  build_id bigint not null references build (id),
  place    bigint generated always as identity,
  line     text not null,
  log_id   bigint,                                 -- it is on its way to that log, ...
  to_byte  bigint,                                 -- ... which has it when it has come to this length
  primary key (build_id, place)
);

-- What a test took, the newest first, for the next builds to plan with.
create table test_time (
  repo    text not null,
  name    text not null,
  builder text not null,
  recent  integer[] not null default '{}',
  shared  integer[] not null default '{}',         -- its part, by what was expected, of groups that said only what all took together
  seen_at timestamptz not null,                    -- when it passed last, to the day, so that an index follows once a day
  primary key (repo, name, builder)
);
create index test_time_seen on test_time (seen_at);

-- Further machines for the tests of a build.
create table helper (
  lease_id bigint primary key references lease (id),
  build_id bigint not null references build (id)
);
create index helper_of_build on helper (build_id);

-- Tests that failed and then passed: the build's outcome is 'success', and a page shows it as flaky.
alter table build add column flaky_tests integer not null default 0;
