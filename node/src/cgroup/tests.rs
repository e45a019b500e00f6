use super::*;

#[test]
fn the_mount_under_sys_is_preferred() {
    let both = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                cgroup2 /mnt/other\\040place cgroup2 rw 0 0\n\
                cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
    assert_eq!(parse_mounts(both), Some(PathBuf::from("/sys/fs/cgroup/unified")));
    let other = "cgroup2 /mnt/other\\040place cgroup2 rw 0 0\n";
    assert_eq!(parse_mounts(other), Some(PathBuf::from("/mnt/other place")));
    assert_eq!(parse_mounts("cgroup2 /x ext4 rw 0 0\n\nshort\n"), None);
}

struct Tree(Cgroup);

impl Drop for Tree {
    fn drop(&mut self) {
        self.0.kill_each();
        for cgroup in self.0.descendants().iter().rev() {
            let _ = fs::remove_dir(cgroup.path());
        }
    }
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_tree_is_killed_and_removed_with_its_processes() {
    let root = find_or_mount().unwrap();
    let tree = Tree(Cgroup::at(root.join(format!("pintle-test-{}", std::process::id()))));
    let leaf = tree.0.child("pod").child("container");
    leaf.create().unwrap();
    let mut sleeper = tokio::process::Command::new("sleep").arg("1000").spawn().unwrap();
    leaf.add(sleeper.id().unwrap()).unwrap();
    assert_eq!(tree.0.processes(), [i32::try_from(sleeper.id().unwrap()).unwrap()]);

    let (removed, status) = tokio::join!(tree.0.remove_tree(), sleeper.wait());
    assert_eq!(removed.unwrap(), 3);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status.unwrap()), Some(9));
    assert!(!tree.0.path().exists());
    assert_eq!(tree.0.remove_tree().await.unwrap(), 0);
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_limit_without_its_controller_names_it() {
    let root = find_or_mount().unwrap();
    let tree = Tree(Cgroup::at(root.join(format!("pintle-limit-{}", std::process::id()))));
    Cgroup::at(&root).delegate();
    tree.0.create().unwrap();
    let limited = tree.0.set_memory_max(64 << 20);
    if tree.0.controllers().contains("memory") {
        limited.unwrap();
        assert_eq!(tree.0.read("memory.max").unwrap().trim(), (64 << 20).to_string());
    } else {
        let message = limited.unwrap_err().to_string();
        assert!(message.contains("cgroup2 has no memory controller here"), "{message}");
    }
}
