-- Files of clients that not everybody may fetch who knows their name.

ALTER TABLE uploads ADD COLUMN access TEXT;             -- what those hear who may not; NULL: everybody may
