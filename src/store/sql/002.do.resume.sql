-- A lease outlives the connection that it was claimed over, and the coordinator that claimed it.
alter table lease
  add column epoch        integer not null default 0, -- +1 at every claim and adoption; who drives writes only while his stands
  add column instance     text,                       -- the agent process that holds it; null: its commands die with their connection
  add column parked_until timestamptz,                -- held, and driven by nobody: so long it waits for that process to come back
  add column away         interval not null default '0'; -- for so long in all it did, and the process came back
alter table host_type
  add column reconnect_ms integer not null default 300000; -- so long such a process is waited for; kept in step with the configuration
alter table session
  add column instance text,                           -- the agent process behind it, when its commands outlive connections
  add column number   bigint generated always as identity; -- in the order in which the database heard of them
alter table log add column epoch integer not null default 0; -- that of the lease whose driver may add to it
alter table step add column away interval;             -- what `away` of its attempt's lease was when it ended; null: none
create index lease_held_by_instance on lease (instance) where state = 'held' and instance is not null;
create index lease_parked on lease (id) where state = 'held' and parked_until is not null;
create index lease_held_at on lease (coordinator_id) where state = 'held';
create index log_open on log (id) where not ended;
create index session_open_of_instance on session (instance) where closed_at is null and instance is not null;
