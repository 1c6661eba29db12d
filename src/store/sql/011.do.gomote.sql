-- Instances: machines that people have to themselves for a while (gomote), and what they run there.

alter table host_type add column gomote_lent boolean not null default false; -- people may borrow its machines; kept in step with the configuration

-- Whether it waits, is up, is parked or has ended, its lease says, and why it ended; nothing is written down twice.
create table gomote_instance (
  id             bigint generated always as identity primary key,
  request        text not null unique,             -- of whoever asked for it, so that asking again finds it
  lease_id       bigint not null unique references lease (id) on delete cascade,
  leases         integer not null default 1,       -- so many it had: a machine that cannot be made ready is given up for another
  name           text not null,                    -- USER-TYPE-N, used again after its end
  owner          text not null,                    -- a person's id
  email          text not null,
  builder_type   text not null,                    -- a builder, or a host type
  host_type      text not null,
  coordinator_id text not null references coordinator (id), -- to which the client is connected that waits for it
  created_at     timestamptz not null,
  up_at          timestamptz,                      -- its machine was made ready; null: not yet
  working_dir    text,
  expires_at     timestamptz not null,             -- unless it is used before; while it is waited for: when that ends
  limit_at       timestamptz,                      -- whatever happens; null: not up
  keeps          boolean not null default false,   -- its machine is that of a build that failed, and is not emptied
  build_id       bigint references build (id) on delete set null -- that build
);
create index gomote_instance_build on gomote_instance (build_id) where build_id is not null;
create index gomote_instance_name on gomote_instance (name);
create index gomote_instance_owner on gomote_instance (owner, id);
create index lease_gomote on lease (id) where kind = 'gomote' and state <> 'ended';
create index lease_lent on lease (machine_id, id) where kind = 'gomote'; -- all that a machine was
-- What a person does with a machine is nobody's reviewed code.
alter table lease add constraint lease_gomote_unreviewed check (kind <> 'gomote' or (class = 0 and provenance = 'unreviewed'));

-- Who waits for a build to end, to have its machine as it is when it fails. Gone when they have their answer.
create table gomote_hold (
  build_id       bigint primary key references build (id) on delete cascade,
  request        text not null unique,
  owner          text not null,                    -- a person's id
  email          text not null,
  user_name      text not null,                    -- of the instance's name
  builder_type   text not null,
  host_type      text not null,
  coordinator_id text not null references coordinator (id), -- to which the client is connected that waits
  asked_at       timestamptz not null,
  per_person     integer not null,                 -- quotas, as they are when it is asked for
  per_host_type  integer,
  instance_id    bigint references gomote_instance (id) on delete set null, -- what came of it
  refusal        text                              -- or why nothing does
);
create index gomote_hold_instance on gomote_hold (instance_id) where instance_id is not null;

create table gomote_command (
  id             bigint generated always as identity primary key,
  instance_id    bigint not null references gomote_instance (id) on delete cascade,
  machine_id     bigint references machine (id),      -- that of its instance, for whoever looks after it
  coordinator_id text references coordinator (id),    -- which attends to it while it runs; null: none does any more
  who            text not null,
  command        text not null,                       -- in words, cut where it is very long
  command_bytes  bigint,                              -- of all its words where they were cut; null: they were not
  dir            text not null,
  key            text unique,                         -- that of its entry in the audit, so that beginning it again finds it
  started_at     timestamptz not null,
  ended_at       timestamptz,                         -- null: it runs, or may
  state          text,                                -- Process-State, or why there is none; null: it runs, or may
  kill           text                                 -- its state once it was killed, since somebody wants that; null: nobody does
);
create index gomote_command_of on gomote_command (instance_id, id);
create index gomote_command_runs on gomote_command (instance_id, id) where ended_at is null;
create index gomote_command_on on gomote_command (machine_id, id);
create index gomote_command_runs_on on gomote_command (machine_id, id) where ended_at is null;

drop index lease_without_attempt;
create index lease_without_attempt on lease (kind, ended_at) where state = 'ended' and kind in ('probe', 'gomote');
