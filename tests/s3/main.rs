//! A service of S3 as a process, for measurements and for tests of several processes: `s3-stand-in DIR [ADDRESS]` serves
//! the directories in DIR as buckets, prints its endpoint, and checks signatures of the key `latentd-tests` with the secret
//! `not-a-secret`.

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("give a directory, whose directories are the buckets")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let files = s3s_fs::FileSystem::new(root).map_err(|error| format!("{error:?}"))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single("latentd-tests", "not-a-secret"));
    let service = service.build();
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("{error}");
            }
        });
    }
}
