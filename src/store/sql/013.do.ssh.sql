-- Keys of the ssh gateway, shared by all coordinators: a restart loses nothing, and it does not matter which one answers.

create table ssh_key (
  name    text not null,        -- what it is for
  sealer  text not null,        -- fingerprint of the master key that it is sealed under: another master key means other keys
  sealed  bytea not null,       -- so that a copy of the database lets nobody in
  made_at timestamptz not null,
  primary key (name, sealer)
);
