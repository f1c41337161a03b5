-- Files of clients that not everybody may fetch who knows their name.

ALTER TABLE uploads ADD COLUMN access TEXT;             -- the answer for callers who may not; NULL: everybody may
