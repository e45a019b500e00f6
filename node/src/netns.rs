//! Network namespaces with a name, as `ip netns` keeps them: a bind mount of the namespace on
//! `/run/netns/NAME`. The mount keeps the namespace alive without a process in it.
//!
//! A thread that enters a namespace ends there: no thread of a pool is ever moved.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::NetworkError;

/// A named network namespace. Holds no file open, so that it never keeps a deleted one alive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Make a new namespace; fails if the name is taken.
    pub fn create(name: &str) -> Result<Self, NetworkError> {
        let namespace = Self { name: name.to_owned() };
        let path = namespace.path();
        let failed = |source| NetworkError::io(format!("create network namespace {name}"), source);
        fs::create_dir_all(NETNS_DIR).map_err(failed)?;
        File::create_new(&path).map_err(failed)?;
        let target = path.clone();
        let mounted = in_thread(&format!("create network namespace {name}"), move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let source = Path::new("/proc/thread-self/ns/net");
            mount(Some(source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        });
        if let Err(error) = mounted.and_then(|result| result.map_err(|errno| failed(errno.into())))
        {
            // Leave no plain file behind that looks like a namespace.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(namespace)
    }

    /// An existing namespace.
    pub fn open(name: &str) -> Result<Self, NetworkError> {
        let namespace = Self { name: name.to_owned() };
        namespace.file()?;
        Ok(namespace)
    }

    /// A name, whether or not the namespace is there.
    pub(crate) fn named(name: String) -> Self {
        Self { name }
    }

    /// The names under `/run/netns` that begin with `prefix`, leftovers without a mount included.
    pub fn list(prefix: &str) -> Result<Vec<Self>, NetworkError> {
        let failed = |source| NetworkError::io(format!("list {NETNS_DIR}"), source);
        let entries = match fs::read_dir(NETNS_DIR) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) {
                found.push(Self { name: name.to_owned() });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Its name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file: `/run/netns/NAME`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }

    /// The namespace's file, open; as long as it is, the kernel keeps the namespace.
    pub fn file(&self) -> Result<File, NetworkError> {
        File::open(self.path()).map_err(|source| {
            NetworkError::io(format!("open network namespace {}", self.name), source)
        })
    }

    /// Remove the name. The kernel ends the namespace when its last process and socket are gone.
    /// A name that is not there is fine.
    pub fn delete(&self) -> Result<(), NetworkError> {
        let act = || format!("delete network namespace {}", self.name);
        match umount2(&self.path(), MntFlags::MNT_DETACH) {
            // EINVAL: a plain file, left by a predecessor that died between file and mount.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(NetworkError::io(act(), errno)),
        }
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::io(act(), error))
            }
            _ => Ok(()),
        }
    }

    /// Run `work` on a thread of its own inside the namespace, and wait for it; blocks.
    pub fn run_in<T, F>(&self, work: F) -> Result<T, NetworkError>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let file = self.file()?;
        let act = format!("enter network namespace {}", self.name);
        in_thread(&act, || setns(&file, CloneFlags::CLONE_NEWNET).map(|()| work()))?
            .map_err(|errno| NetworkError::io(act, errno))
    }

    /// As [`run_in`](Self::run_in), without blocking the caller's thread.
    pub async fn spawn_in<T, F>(&self, work: F) -> Result<T, NetworkError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let file = self.file()?;
        let act = format!("enter network namespace {}", self.name);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                let outcome = setns(&file, CloneFlags::CLONE_NEWNET).map(|()| work());
                drop(file);
                // The caller may have given up waiting.
                let _ = sender.send(outcome);
            })
            .map_err(|source| NetworkError::io(act.clone(), source))?;
        match receiver.await {
            Ok(outcome) => outcome.map_err(|errno| NetworkError::io(act, errno)),
            Err(_) => Err(NetworkError::ThreadDied { act }),
        }
    }
}

fn in_thread<T, F>(act: &str, work: F) -> Result<T, NetworkError>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| NetworkError::io(act, source))?
            .join()
            .map_err(|_| NetworkError::ThreadDied { act: act.to_owned() })
    })
}

const NETNS_DIR: &str = "/run/netns";
