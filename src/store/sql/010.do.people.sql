-- People: who they are, what they may, and how they prove it. Of every secret only the SHA-256 is kept.

create table person (
  id          text primary key,                    -- U and 9 hex digits
  email       text not null,
  roles       text[] not null,                     -- farm/person.ts ROLES
  openid      text,                                -- 'ISSUER SUBJECT' of the account that they signed in with; null: never yet
  created_at  timestamptz not null,
  removed_at  timestamptz                          -- the row stays, for what they did; who is added again later is somebody else
);
create unique index person_email on person (lower(email)) where removed_at is null;

alter table build add column canceled_by text;     -- null: nobody canceled it; its reason, which everybody reads, names no person

-- What a program of theirs shows.
create table api_token (
  id           text primary key,                   -- T and 9 hex digits, printed and listed
  person_id    text not null references person (id),
  name         text not null,
  sha256       bytea not null unique,
  begins       text not null,                      -- its first characters, by which somebody knows it again
  made_at      timestamptz not null,
  expires_at   timestamptz not null,
  revoked_at   timestamptz,
  last_used_at timestamptz
);
create index api_token_of on api_token (person_id, made_at);
create index api_token_ends on api_token ((least(expires_at, revoked_at)));

alter table audit add column key text unique; -- of what is done, so that writing it down again adds nothing; null: the change itself is made once
create index audit_subject on audit (subject, at);          -- what was done to somebody

-- A browser in which somebody is signed in. The row goes when they sign out.
create table browser_session (
  sha256      bytea primary key,
  person_id   text not null references person (id),
  token_id    text references api_token (id),      -- they showed this token to sign in, and are signed in while it is good
  made_at     timestamptz not null,
  expires_at  timestamptz not null
);
create index browser_session_of on browser_session (person_id);
create index browser_session_token on browser_session (token_id) where token_id is not null;
create index browser_session_expires on browser_session (expires_at);

-- A program that asks to be let in by somebody who is signed in elsewhere; what it is given is made when it comes for it.
create table device_login (
  sha256      bytea primary key,                   -- of its device code
  user_code   text not null unique,                -- what a person compares and types
  program     text not null,                       -- what it calls itself
  address     text not null,                       -- where it asked from
  asked_at    timestamptz not null,
  expires_at  timestamptz not null,
  polled_at   timestamptz,
  interval_ms integer not null,                    -- it has to wait so long between two questions
  person_id   text references person (id),         -- who answered
  allowed     boolean,                             -- null: nobody has yet
  until       timestamptz                          -- what it is given ends then at the latest
);
create index device_login_expires on device_login (expires_at);
