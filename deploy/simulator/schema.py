"""Defines the simulator's tables. Times are seconds since 1970, ids are digits."""

SCHEMA_VERSION = 1
"""Raise it with each change of the schema. A file of another version is not opened."""
SCHEMA = """
create table if not exists settings (
    name text primary key,
    value text not null -- JSON
) strict;

create table if not exists users (
    number integer primary key, -- order of creation
    id text not null unique,
    username text not null unique,
    created_at real not null
) strict;

create table if not exists boards (
    number integer primary key,
    id text not null unique,
    user_id text not null references users (id) on delete cascade,
    name text not null,
    description text,
    privacy text not null default 'PUBLIC',
    is_ads_only integer not null default 0,
    created_at real not null,
    pins_modified_at real
) strict;
create index if not exists boards_of_user on boards (user_id, number);

create table if not exists sections (
    number integer primary key,
    id text not null unique,
    board_id text not null references boards (id) on delete cascade,
    name text not null
) strict;
create index if not exists sections_of_board on sections (board_id, number);

create table if not exists codes (
    code text primary key,
    user_id text not null references users (id) on delete cascade,
    redirect_uri text not null,
    scopes text not null, -- separated by spaces
    expires_at real not null,
    used_at real
) strict;

-- A row for each answer of POST /oauth/token. Rows are never deleted: tests of leaks need them
create table if not exists tokens (
    number integer primary key,
    user_id text not null references users (id) on delete cascade,
    grant_type text not null,
    scopes text not null,
    access_token text not null unique,
    access_expires_at real not null,
    refresh_token text unique, -- null: client_credentials
    refresh_expires_at real,
    previous integer references tokens (number), -- the row whose refresh token was exchanged
    issued_at real not null,
    first_used_at real, -- of the access token
    refresh_ended_at real, -- the refresh token was replaced
    revoked_at real -- both tokens
) strict;

-- Every pin ever made. Rows are never deleted: they tell doubles and losses
create table if not exists pins (
    number integer primary key, -- order of creation
    id text not null unique,
    user_id text not null references users (id) on delete cascade,
    board_id text not null, -- of a board that may be deleted
    section_id text,
    title text,
    description text,
    alt_text text,
    link text,
    dominant_color text,
    parent_pin_id text,
    is_standard integer not null,
    media_type text not null, -- image, video, multiple_images
    media_items text not null, -- JSON: title, description and link of each image of a carousel
    position integer not null, -- place in shuffled lists
    created_at real not null,
    deleted_at real
) strict;
create index if not exists pins_of_user on pins (user_id, number);
create index if not exists pins_of_board on pins (board_id, number);

create table if not exists media (
    number integer primary key,
    id text not null unique,
    user_id text not null references users (id) on delete cascade,
    upload_parameters text not null, -- JSON
    created_at real not null,
    ready_at real, -- end of the processing. Null: nothing was uploaded
    fails integer not null default 0
) strict;
create index if not exists media_of_user on media (user_id, number);
"""
