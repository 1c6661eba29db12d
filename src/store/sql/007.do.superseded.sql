-- A build that a newer commit overtook before it began, or that is not needed any more, ends as skipped: nobody asked for it, and it can be asked for.
alter table build drop constraint build_outcome_check;
alter table build add constraint build_outcome_check check (outcome in ('success', 'failure', 'infra_failure', 'canceled', 'skipped'));
alter table attempt drop constraint attempt_outcome_check;
alter table attempt add constraint attempt_outcome_check check (outcome in ('success', 'failure', 'infra_failure', 'canceled', 'skipped'));

-- What was skipped may be planned again: its commit may become the head of another branch, or lie between a green and a red one.
drop index build_once;
create unique index build_once on build (commit_id, builder, recipe) where rebuild_of is null and outcome is distinct from 'skipped';

-- What a builder found, and how long it took, however many of its builds were skipped or wait.
create index build_with_verdict on build (repo, builder, id desc) where outcome in ('success', 'failure');

-- The farm planned it to find out which commit broke the builder.
alter table build add column narrows boolean not null default false;
create index build_narrowing on build (repo, branch, builder) where narrows and state <> 'ended';

-- Of each builder whose newest answer about a branch is red: since when, as far as is known; one row for each of its failing tests where few
-- fail, else one for all that it does. builds/narrowing.ts keeps it; what decides is builds/culprit.ts.
create table standing (
  repo         text not null,
  branch       text not null,
  builder      text not null,
  place        integer not null default 0,                                -- 0, 1, ... in the order of the tests
  test         text,                                                      -- null: the builder as a whole
  kind         text not null check (kind in ('commit', 'recipe', 'range', 'never green')),
  red_build    bigint not null references build (id) on delete cascade,   -- of the oldest commit that is known to be red
  red_commit   bigint not null references commit (id) on delete cascade,
  green_build  bigint references build (id) on delete set null, -- of the newest green before it; null: there is none
  green_commit bigint references commit (id) on delete set null,
  between      integer not null,                        -- commits between the two that nobody knows about
  changed_at   timestamptz not null,
  recipe       text,                                    -- by which this is told ...
  looking      text,                                    -- ... and by which it is narrowed; a pair's differ while the other repository moves
  primary key (repo, branch, builder, place)
);

-- Since when the remote does not have it any more; null: it has it. Nothing is built for the sake of a branch that is gone, and retention ends it.
alter table branch add column gone_at timestamptz;
-- The branch that the remote's HEAD stands for; null: it does not say.
alter table repo add column head_branch text;
