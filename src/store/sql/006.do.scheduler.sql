-- Who shares machines with whom, and release branches.

alter table lease
  -- Those who take turns within a class: a repository, for gomote and try a person. Byte order, so that every database has the same.
  add column flow         text collate "C" not null default '',
  add column repo         text collate "C" not null default '',  -- the turns of one person go round their repositories
  add column release      boolean not null default false,        -- of a release branch; counts in class try
  add column out_of_turn  boolean not null default false,        -- taken because it starved; the next one goes by turns
  -- The first part of the order as one number: class, whole builds before helpers, release branches before the rest.
  add column band         smallint not null generated always as (
    class * 4 + case when kind = 'helper' then 2 else 0 end + case when class = 1 and release then 0 else 1 end) stored,
  add column submitted    boolean not null generated always as (provenance = 'submitted') stored;

update lease set flow = b.repo, repo = b.repo
from attempt a join build b on b.id = a.build_id where a.lease_id = lease.id and lease.state <> 'ended';

-- `submitted` stands last so that what a community machine may not take is passed over within the index.
drop index lease_in_order;
drop index lease_starving;
create index lease_in_order on lease (queue, band, flow, repo, rank, starves_at, id, submitted) where state = 'wanted';
create index lease_starving on lease (queue, starves_at, id, submitted) where state = 'wanted';
create index lease_avoiding on lease (queue, avoid_until) where state = 'wanted' and avoid_until is not null;
-- What each flow holds, and when it was served last.
create index lease_held on lease (queue, flow, repo) where state = 'held';
create index lease_served on lease (queue, flow, repo, held_at desc) where held_at is not null;
-- What was taken last from each queue.
create index lease_latest on lease (queue, held_at desc) where held_at is not null;
