-- The tables of the DSS, shaped as Phobos 3.3 shapes those that its daemon uses. The limits on lengths
-- are those of the PostgreSQL columns, so that a site can move there.
-- Times are UTC text in milliseconds; the CHECKs hold them to the one form that is compared as text.

CREATE TABLE device (
    family     TEXT NOT NULL CHECK (family IN ('tape', 'dir', 'rados_pool')),
    model      TEXT CHECK (length(model) <= 32),
    id         TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    host       TEXT NOT NULL CHECK (length(host) BETWEEN 1 AND 128),
    adm_status TEXT NOT NULL CHECK (adm_status IN ('locked', 'unlocked', 'failed')),
    path       TEXT NOT NULL CHECK (length(path) <= 256),
    library    TEXT NOT NULL CHECK (length(library) BETWEEN 1 AND 255),
    PRIMARY KEY (family, id, library)
) STRICT;

CREATE INDEX device_host ON device (host);

CREATE TABLE media (
    family       TEXT NOT NULL CHECK (family IN ('tape', 'dir', 'rados_pool')),
    model        TEXT CHECK (length(model) <= 32),
    id           TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    adm_status   TEXT NOT NULL CHECK (adm_status IN ('locked', 'unlocked', 'failed')),
    fs_type      TEXT NOT NULL CHECK (fs_type IN ('POSIX', 'LTFS', 'RADOS')),
    fs_label     TEXT NOT NULL DEFAULT '' CHECK (length(fs_label) <= 32),
    address_type TEXT NOT NULL CHECK (address_type IN ('PATH', 'HASH1', 'OPAQUE')),
    fs_status    TEXT NOT NULL CHECK (fs_status IN ('blank', 'empty', 'used', 'full', 'importing')),
    stats        TEXT NOT NULL CHECK (
        json_type(stats, '$.nb_obj') IS 'integer' AND stats ->> '$.nb_obj' >= 0
        AND json_type(stats, '$.logc_spc_used') IS 'integer' AND stats ->> '$.logc_spc_used' >= 0
        AND json_type(stats, '$.phys_spc_used') IS 'integer' AND stats ->> '$.phys_spc_used' >= 0
        AND json_type(stats, '$.phys_spc_free') IS 'integer' AND stats ->> '$.phys_spc_free' >= 0
        AND json_type(stats, '$.nb_load') IS 'integer' AND stats ->> '$.nb_load' >= 0
        AND json_type(stats, '$.nb_errors') IS 'integer' AND stats ->> '$.nb_errors' >= 0
        AND json_type(stats, '$.last_load') IS 'integer' AND stats ->> '$.last_load' >= 0
    ),
    tags         TEXT NOT NULL DEFAULT '[]' CHECK (json_type(tags) IS 'array'),
    put          INTEGER NOT NULL DEFAULT 1 CHECK (put IN (0, 1)),
    get          INTEGER NOT NULL DEFAULT 1 CHECK (get IN (0, 1)),
    "delete"     INTEGER NOT NULL DEFAULT 1 CHECK ("delete" IN (0, 1)),
    library      TEXT NOT NULL CHECK (length(library) BETWEEN 1 AND 255),
    groupings    TEXT NOT NULL DEFAULT '[]' CHECK (json_type(groupings) IS 'array'),
    PRIMARY KEY (family, id, library)
) STRICT;

CREATE TABLE lock (
    type        TEXT NOT NULL CHECK (type IN ('object', 'device', 'media', 'media_update')),
    id          TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 2048),
    hostname    TEXT NOT NULL CHECK (length(hostname) BETWEEN 1 AND 256),
    owner       INTEGER NOT NULL,
    timestamp   TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
                CHECK (timestamp IS strftime('%Y-%m-%d %H:%M:%f', timestamp)),
    is_weak     INTEGER NOT NULL DEFAULT 0 CHECK (is_weak IN (0, 1)),
    last_locate TEXT CHECK (last_locate IS strftime('%Y-%m-%d %H:%M:%f', last_locate)),
    PRIMARY KEY (type, id)
) STRICT;

CREATE TABLE logs (
    family  TEXT NOT NULL CHECK (family IN ('tape', 'dir', 'rados_pool')),
    device  TEXT NOT NULL CHECK (length(device) <= 255),
    medium  TEXT NOT NULL CHECK (length(medium) <= 255),
    uuid    TEXT NOT NULL DEFAULT (
                lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)
                || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))
            ) UNIQUE,
    errno   INTEGER NOT NULL CHECK (errno <= 0),
    cause   TEXT NOT NULL CHECK (cause IN (
                'Library scan', 'Library open', 'Device lookup', 'Medium lookup', 'Device load', 'Device unload',
                'LTFS mount', 'LTFS umount', 'LTFS format', 'LTFS df', 'LTFS sync'
            )),
    message TEXT NOT NULL CHECK (CASE WHEN json_valid(message) THEN json_type(message) = 'object' ELSE 0 END),
    time    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
            CHECK (time IS strftime('%Y-%m-%d %H:%M:%f', time)),
    library TEXT NOT NULL CHECK (length(library) BETWEEN 1 AND 255)
) STRICT;

CREATE INDEX logs_device ON logs (family, library, device);
CREATE INDEX logs_medium ON logs (family, library, medium);
