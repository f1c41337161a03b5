//! Files and their owners: nothing that is owned is given up, and what nobody owns is.

use crate::rig::{Rig, claim, request, submit};
use latentd_queue::queue::{
    ABANDONED, FileLife, Identity, Lost, NewKey, NewRequest, NewUpload, Part, RequestOptions, Scope,
    StoredFile, TICKET_LIFE, Ticket,
};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

crate::on_both! {
    a_file_has_an_owner_or_is_known_to_have_none,
    files_of_a_lost_attempt_are_given_up_later,
    a_result_lives_as_long_as_it_was_asked_to,
    an_upload_is_written_once_and_ends,
    parts_replace_each_other_and_go_with_their_file,
    uploads_are_bounded,
    a_token_sends_files_until_it_ends_or_its_key_is_revoked,
    a_database_knows_its_folder,
}

const HOUR: Duration = Duration::from_secs(3600);

fn file(key: &str) -> StoredFile {
    StoredFile { key: key.into(), content_type: "image/png".into(), bytes: 5, sha256: "d".into() }
}

async fn a_file_has_an_owner_or_is_known_to_have_none(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &request()).await;
    let claim = claim(&queue, "w").await.expect("a request");
    assert!(queue.expect_files(&["kept", "lost"], Some(&claim)).await.expect("a database"));
    assert!(
        queue.expect_files(&["kept", "lost"], Some(&claim)).await.expect("a database"),
        "the answer was lost"
    );
    assert!(!queue.expect_files(&["kept"], None).await.expect("a database"), "it is another's");
    assert!(
        queue.finish(&claim, &json!({}), &[file("unknown")], &[]).await.is_err(),
        "it was never written down"
    );
    queue.finish(&claim, &json!({}), &[file("kept")], &[]).await.expect("a database");
    assert_eq!(queue.owned_files().await.expect("a database"), ["kept"]);
    assert!(queue.owns_file("kept").await.expect("a database"));
    assert!(!queue.give_up_file("kept").await.expect("a database"), "it has an owner");
    assert!(queue.give_up_file("lost").await.expect("a database"));
    assert_eq!(queue.given_up_files().await.expect("a database"), ["lost"]);
    queue.forget_file("lost").await.expect("a database");
    assert!(queue.given_up_files().await.expect("a database").is_empty());
    assert_eq!(queue.file_life("kept").await.expect("a database"), Some(FileLife::Kept));
    assert_eq!(queue.file_life("lost").await.expect("a database"), None);
}

async fn files_of_a_lost_attempt_are_given_up_later(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &request()).await;
    let lost = claim(&queue, "lost").await.expect("a request");
    assert!(queue.expect_files(&["half"], Some(&lost)).await.expect("a database"));
    queue.reclaim(Lost::Died("lost")).await.expect("a database");
    let current = claim(&queue, "w").await.expect("a request");
    assert!(queue.expect_files(&["whole"], Some(&current)).await.expect("a database"));
    assert_eq!(queue.give_up_abandoned_files().await.expect("a database"), 0);
    rig.advance(ABANDONED + Duration::from_secs(1)).await;
    assert_eq!(queue.give_up_abandoned_files().await.expect("a database"), 1);
    assert_eq!(queue.given_up_files().await.expect("a database"), ["half"], "the other's writer still runs");
    queue.finish(&current, &json!({}), &[file("whole")], &[]).await.expect("a database");
}

async fn a_result_lives_as_long_as_it_was_asked_to(rig: Rig) {
    let queue = rig.open().await;
    let options = RequestOptions { result_life: Some(HOUR), forget: true, ..RequestOptions::default() };
    let id = submit(&queue, &NewRequest { options, ..request() }).await;
    let claim = claim(&queue, "w").await.expect("a request");
    queue.expect_files(&["image"], Some(&claim)).await.expect("a database");
    queue.finish(&claim, &json!({ "a": 1 }), &[file("image")], &[]).await.expect("a database");
    let life = queue.file_life("image").await.expect("a database");
    assert!(matches!(life, Some(FileLife::Ends(left)) if left <= HOUR), "{life:?}");
    assert_eq!(queue.erase_ended().await.expect("a database"), 0);
    rig.advance(HOUR + Duration::from_secs(1)).await;
    assert_eq!(queue.file_life("image").await.expect("a database"), Some(FileLife::Over));
    assert_eq!(queue.erase_ended().await.expect("a database"), 1);
    queue.end_files().await.expect("a database");
    assert_eq!(queue.given_up_files().await.expect("a database"), ["image"]);
    let outcome = queue.outcome(id).await.expect("a database");
    assert_eq!(outcome, Some(latentd_queue::queue::Outcome::Erased));
}

fn upload(ticket: Uuid, key: &str) -> NewUpload {
    let lifetime = Some(2 * HOUR);
    let (content_type, file_name) = ("image/png".into(), Some("a.png".into()));
    let access = Some("private".into());
    NewUpload { ticket, key: key.into(), content_type, file_name, lifetime, access, api_key: None }
}

async fn an_upload_is_written_once_and_ends(rig: Rig) {
    let queue = rig.open().await;
    let ticket = Uuid::new_v4();
    queue.open_upload(&upload(ticket, "f"), 10).await.expect("a database").expect("a place");
    let known = queue.ticket(ticket).await.expect("a database");
    assert_eq!(known, Some(Ticket { key: "f".into(), is_whole: false, is_writable: true }));
    assert_eq!(queue.uploaded("f").await.expect("a database"), None);
    queue.expect_files(&["object", "second"], None).await.expect("a database");
    assert!(queue.close_upload(ticket, "object", 3).await.expect("a database"));
    assert!(!queue.close_upload(ticket, "second", 3).await.expect("a database"), "it is written");
    let whole = queue.uploaded("f").await.expect("a database").expect("a file");
    assert_eq!((whole.object.as_str(), whole.access.as_deref()), ("object", Some("private")));
    assert!(whole.remaining.is_some_and(|left| left <= 2 * HOUR));
    rig.advance(2 * HOUR + Duration::from_secs(1)).await;
    assert_eq!(queue.uploaded("f").await.expect("a database"), None);
    queue.end_uploads().await.expect("a database");
    assert_eq!(queue.given_up_files().await.expect("a database"), ["object"]);
    assert_eq!(queue.ticket(ticket).await.expect("a database"), None);
}

async fn parts_replace_each_other_and_go_with_their_file(rig: Rig) {
    let queue = rig.open().await;
    let ticket = Uuid::new_v4();
    queue.open_upload(&upload(ticket, "f"), 10).await.expect("a database").expect("a place");
    queue.expect_files(&["p1", "p1b", "p2", "object", "late"], None).await.expect("a database");
    let part = |number, object: &str| Part { number, object: object.into(), bytes: 3 };
    let put = async |part: Part| queue.put_part(ticket, &part).await.expect("a database");
    assert_eq!(put(part(1, "p1")).await, Ok(None));
    assert_eq!(put(part(2, "p2")).await, Ok(None));
    assert_eq!(put(part(1, "p1b")).await, Ok(Some("p1".into())));
    assert_eq!(queue.parts(ticket).await.expect("a database"), [part(1, "p1b"), part(2, "p2")]);
    assert!(queue.close_upload(ticket, "object", 3).await.expect("a database"));
    assert_eq!(put(part(3, "late")).await, Err(()));
    queue.end_needless_parts().await.expect("a database");
    let mut given_up = queue.given_up_files().await.expect("a database");
    given_up.sort();
    assert_eq!(given_up, ["p1", "p1b", "p2"]);
    queue.forget_upload(ticket).await.expect("a database");
    assert!(queue.given_up_files().await.expect("a database").contains(&"object".to_owned()));
}

async fn uploads_are_bounded(rig: Rig) {
    let queue = rig.open().await;
    for number in 0..2 {
        let new = upload(Uuid::new_v4(), &number.to_string());
        queue.open_upload(&new, 2).await.expect("a database").expect("a place");
    }
    let third = upload(Uuid::new_v4(), "third");
    assert_eq!(queue.open_upload(&third, 2).await.expect("a database"), Err(2));
    rig.advance(TICKET_LIFE + Duration::from_secs(1)).await;
    assert_eq!(queue.open_upload(&third, 2).await.expect("a database"), Ok(()));
}

async fn a_token_sends_files_until_it_ends_or_its_key_is_revoked(rig: Rig) {
    let queue = rig.open().await;
    for (id, digest) in [("k", [1; 32]), ("revoked", [2; 32])] {
        let (name, scope, concurrency) = ("n".into(), Scope::Api, None);
        let key = NewKey { id: id.into(), sha256: digest, name, scope, concurrency };
        queue.add_key(&key).await.expect("a database");
    }
    let owner = async |token| queue.upload_token_owner(token).await.expect("a database");
    for (token, key) in [("its", Some("k")), ("revoked's", Some("revoked")), ("operator's", None)] {
        queue.add_upload_token(token, key, HOUR).await.expect("a database").expect("a place");
        assert_eq!(owner(token).await, Some(key.map(str::to_owned)));
    }
    assert_eq!(owner("another").await, None);
    queue.revoke_key("revoked").await.expect("a database");
    assert_eq!(owner("revoked's").await, None);
    assert!(owner("its").await.is_some());
    rig.advance(HOUR + Duration::from_secs(1)).await;
    assert_eq!((owner("its").await, owner("operator's").await), (None, None));
}

async fn a_database_knows_its_folder(rig: Rig) {
    let queue = rig.open().await;
    let Identity { id, starts } = queue.identity().await.expect("a database");
    assert_eq!((id.len(), starts), (32, 0));
    assert!(!queue.was_used().await.expect("a database"));
    assert!(!queue.owns_files().await.expect("a database"));
    assert!(!queue.is_settled().await.expect("a database"));
    assert_eq!(queue.count_start().await.expect("a database"), 1);
    rig.advance(HOUR + Duration::from_secs(1)).await;
    assert!(queue.is_settled().await.expect("a database"));
    queue.rejoin(5).await.expect("a database");
    assert_eq!(queue.identity().await.expect("a database"), Identity { id, starts: 5 });
    assert!(!queue.is_settled().await.expect("a database"));
    queue.probe().await.expect("a database");
    queue.note_time().await.expect("a database");
    submit(&queue, &request()).await;
    assert!(queue.was_used().await.expect("a database"));
}
