-- Files on their way between people and the machines that they have borrowed; a few minutes after they came they are gone.

create table gomote_transfer (
  id             text primary key,                 -- 32 hex digits, in its URL
  owner          text not null,                    -- a person's id
  file_name      text,                             -- whoever has its URL fetches it under this name; null: it was uploaded, for calls of its owner alone
  coordinator_id text not null references coordinator (id), -- to which it came; the bytes are in its folder
  arrival        text not null,                    -- of the one request that brings it, so that nobody else can
  state          text not null check (state in ('arriving', 'kept')),
  bytes          bigint,                           -- null: not all of it is there
  expires_at     timestamptz not null
);
create index gomote_transfer_expires on gomote_transfer (expires_at);
