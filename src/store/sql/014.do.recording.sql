-- What shells in browsers printed, for their borrowers and for the owners of machines.

create table gomote_recording (
  command_id bigint primary key references gomote_command (id) on delete cascade,
  bytes      bigint not null default 0             -- of its parts, unpacked
);

create table gomote_recording_part (
  command_id bigint not null references gomote_recording (command_id) on delete cascade,
  number     integer not null,
  packed     bytea not null,                       -- gzip of whole lines of an asciicast
  primary key (command_id, number)
);
