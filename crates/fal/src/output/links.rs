//! The URLs in responses: below the scheme, host and prefix that the client used.

use crate::hosts;
use latentd_queue::queue::RequestId;

/// Below which prefix a call came, so that its answer can name URLs below the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mount {
    Bare,
    Queue,
    Run,
}

impl Mount {
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Bare => "",
            Self::Queue => "/queue",
            Self::Run => "/run",
        }
    }
}

/// Renders the URLs of an answer below the scheme, host and prefix that the client used.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    pub(crate) origin: String,
    pub(crate) mount: Mount,
}

impl Links {
    /// The URL of a request; its other URLs lie below it.
    pub(crate) fn request(&self, application: &str, id: RequestId) -> String {
        format!("{}{}/{application}/requests/{id}", self.origin, self.mount.prefix())
    }

    /// Links below an origin that was written down when a client submitted.
    pub(crate) fn below(origin: String) -> Self {
        Self { origin, mount: Mount::Bare }
    }

    /// The URL at which the client reached the server, without a trailing slash.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The path that the server's own paths lie below, for pages: without a trailing slash.
    pub(crate) fn root(&self) -> &str {
        let host = self.origin.find("://").map_or(0, |at| at + 3);
        self.origin[host..].find('/').map_or("", |at| &self.origin[host + at..])
    }

    /// Where the bytes of a file are sent.
    pub(crate) fn upload(&self, ticket: uuid::Uuid) -> String {
        format!("{}/storage/upload/{}", self.origin, ticket.simple())
    }

    /// The URL of a stored file.
    pub(crate) fn file(&self, key: &str) -> String {
        format!("{}/files/{key}", self.file_origin())
    }

    /// The origin of files: on fal, they have a host of their own.
    pub(crate) fn file_origin(&self) -> &str {
        if hosts::is_fal_origin(&self.origin) { hosts::FILE_ORIGIN } else { &self.origin }
    }
}
