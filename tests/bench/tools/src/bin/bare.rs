//! A Pingora proxy that does nothing: every request goes to one upstream as it is. It is what the gateway is held against.
//!
//! `bare LISTEN UPSTREAM THREADS`, addresses as `127.0.0.1:3000`. Not here: anything that a gateway adds.

use async_trait::async_trait;
use pingora::prelude::{HttpPeer, http_proxy_service};
use pingora::proxy::{ProxyHttp, Session};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare {
    upstream: String,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream.as_str(), false, String::new())))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, threads] = arguments.try_into().expect("bare LISTEN UPSTREAM THREADS");
    let threads = threads.parse().expect("a number of threads");
    let conf = ServerConf { threads, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run(RunArgs::default());
}
