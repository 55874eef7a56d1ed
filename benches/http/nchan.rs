//! An nginx with the nchan module on loopback: one channel, published to over HTTP and followed as an event stream.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running nginx.
pub struct Nchan {
    child: Child,
    pub address: String,
    _folder: tempfile::TempDir,
}

impl Nchan {
    /// Starts one, where nginx and the module are.
    pub fn start() -> Option<Self> {
        let module = ["/usr/lib/nginx/modules/ngx_nchan_module.so", "/usr/share/nginx/modules/ngx_nchan_module.so"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "load_module {module};\nworker_processes 1;\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
             user root;\nevents {{ worker_connections 8192; }}\n\
             http {{ access_log off; keepalive_requests 100000000; nchan_shared_memory_size 512m;\n\
             server {{ listen 127.0.0.1:{port} backlog=4096;\n\
             location = /pub {{ nchan_publisher; nchan_channel_id c; nchan_message_buffer_length 10000; }}\n\
             location = /sub {{ nchan_subscriber eventsource; nchan_channel_id c; nchan_subscriber_first_message newest; }} }} }}\n",
            folder = folder.path().display()
        );
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let address = format!("127.0.0.1:{port}");
        for _ in 0..200 {
            if std::net::TcpStream::connect(&address).is_ok() {
                return Some(Self { child, address, _folder: folder });
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        None
    }

    /// The bytes of one publication.
    pub fn publication(&self, bytes: usize) -> Vec<u8> {
        let body = "x".repeat(bytes);
        format!(
            "POST /pub HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: {bytes}\r\n\r\n{body}",
            self.address
        )
        .into_bytes()
    }
}

impl Drop for Nchan {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
