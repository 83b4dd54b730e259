//! The hosts that `allow_package_managers` stands for: public registries and places of code.
//!
//! Exact hosts, and a wildcard only where a service names none. Buckets in which anybody may keep
//! anything (of Amazon S3, of Google Cloud Storage) are not among them, although some downloads are
//! led there: who needs one lists it. The document for users has this list as well, and a test holds
//! the two together.

/// One registry, or one place of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageManager {
    /// For people.
    pub name: &'static str,
    /// Its hosts, as entries of `allowed_hosts`.
    pub hosts: &'static [&'static str],
}

/// All of them. The hosts are those that the services' own documents name for clients and firewalls.
pub const PACKAGE_MANAGERS: &[PackageManager] = &[
    PackageManager { name: "PyPI", hosts: &["pypi.org", "files.pythonhosted.org"] },
    PackageManager {
        name: "npm and Yarn",
        hosts: &["registry.npmjs.org", "registry.yarnpkg.com", "repo.yarnpkg.com"],
    },
    PackageManager {
        name: "crates.io",
        hosts: &["crates.io", "index.crates.io", "static.crates.io"],
    },
    PackageManager { name: "Go modules", hosts: &["proxy.golang.org", "sum.golang.org"] },
    PackageManager {
        name: "Maven Central and Gradle",
        hosts: &[
            "repo.maven.apache.org",
            "repo1.maven.org",
            "plugins.gradle.org",
            "plugins-artifacts.gradle.org",
            "services.gradle.org",
            "downloads.gradle.org",
        ],
    },
    PackageManager { name: "RubyGems", hosts: &["rubygems.org", "index.rubygems.org"] },
    PackageManager { name: "Packagist", hosts: &["packagist.org", "repo.packagist.org"] },
    PackageManager {
        name: "Debian",
        hosts: &["deb.debian.org", "security.debian.org", "archive.debian.org"],
    },
    PackageManager {
        name: "Ubuntu",
        hosts: &[
            "archive.ubuntu.com",
            // Mirrors by country and by cloud, which installations name: us., eu-west-1.ec2.
            "*.archive.ubuntu.com",
            "security.ubuntu.com",
            "ports.ubuntu.com",
            "old-releases.ubuntu.com",
        ],
    },
    PackageManager {
        name: "GitHub",
        hosts: &[
            "github.com",
            "api.github.com",
            "codeload.github.com",
            "raw.githubusercontent.com",
            "objects.githubusercontent.com",
            "release-assets.githubusercontent.com",
            "media.githubusercontent.com",
        ],
    },
    PackageManager { name: "GitLab", hosts: &["gitlab.com"] },
    PackageManager { name: "Bitbucket", hosts: &["bitbucket.org", "api.bitbucket.org"] },
    PackageManager {
        name: "Docker Hub",
        hosts: &[
            "registry-1.docker.io",
            "index.docker.io",
            "auth.docker.io",
            "production.cloudflare.docker.com",
            "production.cloudfront.docker.com",
            "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
        ],
    },
    PackageManager {
        name: "GitHub Container Registry",
        hosts: &["ghcr.io", "pkg-containers.githubusercontent.com"],
    },
    PackageManager {
        name: "GitLab Container Registry",
        hosts: &["registry.gitlab.com", "cdn.registry.gitlab-static.net"],
    },
    // Its contents come from a varying number of hosts below it.
    PackageManager { name: "Quay", hosts: &["quay.io", "*.quay.io"] },
    PackageManager {
        name: "Google Container Registry",
        hosts: &["gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io", "mirror.gcr.io"],
    },
    // Its contents come from one host for each region.
    PackageManager {
        name: "Microsoft Container Registry",
        hosts: &["mcr.microsoft.com", "*.data.mcr.microsoft.com"],
    },
];

/// The hosts of all package managers, in the order of the table.
pub fn hosts() -> impl Iterator<Item = &'static str> {
    PACKAGE_MANAGERS.iter().flat_map(|one| one.hosts).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::host::{self, Addresses};

    #[test]
    fn every_host_is_an_entry_of_a_list_and_stands_there_once() {
        let mut seen = HashSet::new();
        for one in hosts() {
            host::read(one.into(), "", one, Addresses::Refused).unwrap();
            assert_eq!(one, one.to_lowercase());
            assert!(seen.insert(one), "{one} is there twice");
        }
    }

    #[test]
    fn no_wildcard_stands_for_more_than_one_service() {
        let wide: Vec<_> = hosts().filter(|host| host.starts_with('*')).collect();
        assert_eq!(wide, ["*.archive.ubuntu.com", "*.quay.io", "*.data.mcr.microsoft.com"]);
    }
}
