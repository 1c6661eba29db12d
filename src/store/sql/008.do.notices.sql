-- Machines set aside, what is told to whom, drain of a whole farm, and what deleting old things needs.

-- The failure was the machine's own: it went away or broke in the middle of its work. What sets a machine aside is read from here.
alter table attempt add column machine_fault boolean not null default false;
alter table helper
  add column machine_id    bigint references machine (id), -- all three when its lease ended
  add column machine_fault boolean,                -- as of an attempt; null: nothing was learnt
  add column failed        boolean not null default false, -- it broke, or could not begin: its machine is given no other for a while
  add column ended_at      timestamptz;
create index helper_of_machine on helper (machine_id, ended_at desc, lease_id desc) where machine_fault is not null;

alter table machine
  add column set_aside_at     timestamptz,         -- null: it is not
  add column set_aside_until  timestamptz,         -- then it is probed
  add column set_aside_reason text,                -- what it failed with, in words
  add column set_aside_times  integer not null default 0, -- in a row without a good build between: the back-off follows from it
  add column probed_at        timestamptz,
  add column probe_error      text,                -- what the last probe failed with; null: it was well
  add column well_since       timestamptz;         -- a probe or an operator brought it back: failures before do not count any more
create index machine_set_aside on machine (set_aside_until) where set_aside_at is not null;

-- A coordinator that is drained gives its machines nothing new until it is started again.
alter table coordinator
  add column drained_at timestamptz,
  add column drain_note text;
-- The farm as a whole: one row.
create table farm (
  one        boolean primary key default true check (one),
  drained_at timestamptz,
  drain_note text
);
insert into farm default values;

-- Something that is wrong now and of which the farm has taken notice; the row goes when it is well again. Being here is what "told once" means.
create table trouble (
  kind       text not null,                        -- notices/trouble.ts
  subject    text not null,                        -- 'machine:12', 'host:host-linux-amd64', 'repo:app', 'key:K123456789', 'config:HOST'
  since      timestamptz not null,
  noticed_at timestamptz not null,
  told_at    timestamptz,                          -- null: noticed only
  well_at    timestamptz,                          -- since when it is not seen any more, after it was told
  about      jsonb not null,                       -- what its messages say: names as they were
  primary key (kind, subject)
);

-- A message on its way to one recipient. Written with what it tells of; sent by whichever coordinator takes it.
create table notice (
  id         bigint generated always as identity primary key,
  at         timestamptz not null,
  recipient  text not null,                        -- notices/recipients.ts keyOf
  message    jsonb not null,                       -- notices/message.ts Message
  state      text not null default 'waiting' check (state in ('waiting', 'sent', 'dead')),
  tries      integer not null default 0,
  next_at    timestamptz not null,                 -- not before; while somebody sends it, when others may take it over
  sent_at    timestamptz,
  error      text                                  -- why the last try failed
);
create index notice_waiting on notice (next_at) where state = 'waiting';
create index notice_dead on notice (at desc) where state = 'dead';

-- Old logs lose their bytes first; the row stays and says when, so that a page can.
alter table log
  add column dropped_at timestamptz,
  add column emptied    boolean not null default false; -- dropped, and no chunk is left
create index log_to_empty on log (id) where dropped_at is not null and not emptied;
alter table build add column logs_dropped_at timestamptz;
create index build_with_logs on build ((outcome = 'success'), ended_at, id) where state = 'ended' and logs_dropped_at is null;

-- Without these, deleting a row looks through the whole table that refers to it.
create index step_log on step (log_id) where log_id is not null;
create index build_rebuilt on build (rebuild_of) where rebuild_of is not null;
create index build_recipe on build (recipe);
create index audit_at on audit (at);
create index notice_done on notice (at) where state <> 'waiting';
create index standing_red on standing (red_build);
create index standing_green on standing (green_build);
create index standing_red_commit on standing (red_commit);
create index standing_green_commit on standing (green_commit);
create index machine_change_at on machine_change (at);
create index session_closed on session (closed_at) where closed_at is not null;
create index lease_without_attempt on lease (ended_at) where state = 'ended' and kind = 'probe';
-- Tests and their groups come and go with their build.
alter table test drop constraint test_group_id_fkey, drop constraint test_failed_group_fkey;
-- A lease outlives the row of the session that held it.
alter table lease drop constraint lease_session_id_fkey;
