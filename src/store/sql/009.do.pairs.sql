-- A build may be of a pair: a commit tested with one of another repository, which its recipe names (farm/build.ts OtherTree). Read off
-- the recipe, so that they never differ; pages ask for it.
alter table recipe add column with_repo text generated always as (body #>> '{with,repo}') stored;
alter table recipe add column with_branch text generated always as (body #>> '{with,branch}') stored;
alter table recipe add column with_hash text generated always as (body #>> '{with,hash}') stored;
