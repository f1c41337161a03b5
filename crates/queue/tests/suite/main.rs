//! The queue's operations on both engines: each test runs on a file of SQLite and on a real PostgreSQL server.
#![forbid(unsafe_code)]

mod claims;
mod cluster;
mod ends;
mod fairness;
mod fences;
mod files;
mod limits;
mod model;
mod postgres;
mod rig;
mod states;
mod webhooks;

/// Runs tests that take a [`rig::Rig`] on both engines.
macro_rules! on_both {
    ($($test:ident,)+) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::rig::Rig::sqlite()).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                let rig = crate::rig::Rig::postgres().await;
                super::$test(rig.clone()).await;
                rig.end().await;
            })+
        }
    };
}
use on_both;
