-- Which model a request is for, and which a worker has loaded.

ALTER TABLE requests ADD COLUMN model TEXT;                      -- NULL: whichever a worker has
ALTER TABLE workers ADD COLUMN models TEXT NOT NULL DEFAULT '[]'; -- names, as JSON
