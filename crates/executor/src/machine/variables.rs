//! Variables that a job may not set for its runtime.

/// Names in upper case; `*` at one end stands for any rest. They decide whose code runs or whom a
/// program talks to, or are ours. The list cannot be complete: any program may have such a
/// variable, so a device's policy names what is allowed.
const NOT_FROM_JOBS: [&str; 17] = [
    // The user, and places of files.
    "PATH HOME USER LOGNAME TMPDIR TMP TEMP TEMPDIR XDG_* GNUPGHOME KUBECONFIG",
    // The loader, libc, system libraries.
    "LD_* DYLD_* GCONV_PATH GLIBC_* MALLOC_* LOCPATH NLSPATH HOSTALIASES LOCALDOMAIN RES_OPTIONS",
    "GTK_* QT_* DBUS_* DISPLAY WAYLAND_* TERMINFO* TERMCAP INPUTRC KRB5* SYSTEMD_* SUDO_* NIX_*",
    // Shells.
    "SHELL SHELLOPTS BASH* ENV IFS CDPATH PS0 PS1 PS2 PS3 PS4 PROMPT_COMMAND ZDOTDIR FPATH",
    // Programs that programs start.
    "EDITOR *_EDITOR VISUAL PAGER *PAGER BROWSER LESS* *_ASKPASS *_RSH VIM* EXINIT MYVIMRC",
    "GIT_* SSH_* HG* SVN_* GPG_* TAR_OPTIONS RSYNC_* DOCKER_* ANSIBLE_* TF_CLI_* GDB*",
    // C, and what builds.
    "CC CXX CPP LD AR AS NM RANLIB STRIP CFLAGS CXXFLAGS CPPFLAGS LDFLAGS CPATH LIBRARY_PATH",
    "COMPILER_PATH *_INCLUDE_PATH GCC_* LLVM_* CCACHE_* SCCACHE_* DISTCC_* PKG_CONFIG* CONFIG_SITE",
    "MAKE MAKEFLAGS MAKEFILES MFLAGS GNUMAKEFLAGS CMAKE_* CTEST_* NINJA* MESON* BAZEL*",
    // Languages and their package managers.
    "RUSTC* RUSTDOC* RUSTFLAGS RUSTUP_* CARGO* GO* CGO_*",
    "PYTHON* PIP_* PIPX_* PIPENV_* UV_* POETRY_* CONDA_* VIRTUAL_ENV TOX_* PYTEST_*",
    "NODE_* NPM_* YARN_* PNPM_* BUN_* DENO_* COREPACK_*",
    "JAVA_* _JAVA_OPTIONS JDK_* JRE_* CLASSPATH GRADLE_* MAVEN_* MVN_* ANT_* SBT_* KOTLIN_*",
    "PERL* RUBY* GEM_* BUNDLE* RAKE* PHP* COMPOSER_* LUA_* JULIA_* GHC* CABAL_* STACK_* ERL_*",
    "ELIXIR_* MIX_* HEX_* OCAML* OPAM* DOTNET_* CORECLR_* NUGET_* MSBUILD*",
    // Whom programs talk to, and whom they trust.
    "*_PROXY SSL_CERT_* SSLKEYLOGFILE OPENSSL_* *_CA_BUNDLE CURL_* WGETRC OTEL_*",
    // Runtimes, and ours.
    "ANTHROPIC_* CLAUDE* CODEX_* OPENAI_* AGNO_* IS_SANDBOX TROUPE_*",
];

/// Whether a job may ever set this variable for its runtime, whatever a device's user allows.
#[must_use]
pub fn is_free_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    let upper = name.to_ascii_uppercase();
    let taken = |pattern: &str| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => upper.ends_with(end),
        (None, Some(beginning)) => upper.starts_with(beginning),
        (None, None) => upper == pattern,
    };
    let mut patterns = NOT_FROM_JOBS.iter().flat_map(|line| line.split(' '));
    is_name && !name.is_empty() && !patterns.any(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_decide_whose_code_runs_are_not_a_jobs() {
        for free in [
            "GIVEN",
            "A",
            "RUST_LOG",
            "RUST_BACKTRACE",
            "_x1",
            "CI",
            "TZ",
            "LC_ALL",
            "DATABASE_URL",
        ] {
            assert!(is_free_variable(free), "{free}");
        }
        let taken = "PATH Path HOME TMPDIR tmp LD LD_PRELOAD LD_AUDIT BASH_ENV ENV IFS PS4 SHELL \
            PROMPT_COMMAND EDITOR VISUAL PAGER MANPAGER LESSOPEN BROWSER SUDO_ASKPASS \
            GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 git_ssh_command XDG_CONFIG_HOME \
            CC CXX MAKEFLAGS CMAKE_TOOLCHAIN_FILE C_INCLUDE_PATH \
            RUSTC RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTFLAGS CARGO CARGO_HOME \
            CARGO_BUILD_RUSTC_WRAPPER CARGO_ENCODED_RUSTFLAGS RUSTUP_TOOLCHAIN \
            GOFLAGS GOPROXY GOTOOLCHAIN GOAUTH NODE_OPTIONS npm_config_registry \
            PYTHONSTARTUP PIP_INDEX_URL UV_INDEX_URL GRADLE_OPTS MAVEN_OPTS JAVA_TOOL_OPTIONS \
            _JAVA_OPTIONS JDK_JAVA_OPTIONS PERL5OPT PERL5LIB RUBYOPT GEM_HOME BUNDLE_GEMFILE \
            HTTPS_PROXY https_proxy ALL_PROXY no_proxy Http_Proxy SSL_CERT_FILE SSL_CERT_DIR \
            REQUESTS_CA_BUNDLE CURL_CA_BUNDLE CURL_HOME \
            ANTHROPIC_BASE_URL CLAUDE_CONFIG_DIR TROUPE_RUN";
        let no_names = ["", "A=B", "A B", "1A", "BASH_FUNC_ls%%"];
        for taken in taken.split_ascii_whitespace().chain(no_names) {
            assert!(!is_free_variable(taken), "{taken}");
        }
    }

    #[test]
    fn the_list_says_what_it_seems_to() {
        for pattern in NOT_FROM_JOBS.iter().flat_map(|line| line.split(' ')) {
            let plain = pattern.strip_prefix('*').or(pattern.strip_suffix('*')).unwrap_or(pattern);
            assert!(!plain.is_empty() && !plain.contains('*'), "{pattern:?}");
            assert_eq!(plain, plain.to_ascii_uppercase());
            assert!(!is_free_variable(plain), "{pattern:?}");
        }
    }
}
