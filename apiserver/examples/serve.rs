//! A server alone, for trying clients by hand: `serve DATA_DIR ADDR:PORT`.
use pintle_apiserver::{ApiServer, Config, pki};
use pintle_component::{Daemon, LogFormat};
use std::path::PathBuf;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("DATA_DIR"));
    let listen: std::net::SocketAddr = args.next().expect("ADDR:PORT").parse().expect("ADDR:PORT");
    pintle_component::init_logging(LogFormat::Text, "info").expect("logging");
    let shutdown = pintle_component::shutdown_on_signal().expect("signals");
    let daemon = Daemon { shutdown: shutdown.clone(), ..Daemon::default() };
    let store =
        pintle_store::EmbeddedStore::open(&dir.join("store"), Default::default()).expect("store");
    let sans = pki::Sans::new(listen, [10, 96, 0, 1].into(), None);
    let pki = pki::ensure(&dir, &sans).expect("pki");
    let server = ApiServer::new(store.clone(), Config::default(), &daemon).await.expect("server");
    let listener = tokio::net::TcpListener::bind(listen).await.expect("listen");
    server.serve(listener, pki.server_config().expect("tls"), shutdown).await.expect("serve");
    store.close();
}
