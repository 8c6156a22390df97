<?php
(static function (): void {
    static $once = false;
    if ($once || PHP_SAPI !== 'cli') { return; }
    $once = true;
    $read = static function (string $path): string {
        return is_file($path) && is_readable($path) ? substr((string) @file_get_contents($path), 0, 20000) : '';
    };
    $status = $read('/proc/self/status');
    $field = static fn (string $name): string => preg_match("/^$name:\s*(.*)$/m", $status, $m) ? $m[1] : '';
    $cgroup = static function (array $paths) use ($read): string {
        foreach ($paths as $path) { if (($it = trim($read("/sys/fs/cgroup/$path"))) !== '') { return $it; } }
        return '';
    };
    $seen = ['argv' => $_SERVER['argv'] ?? [], 'file' => basename(__FILE__),
        'uid' => $field('Uid'), 'groups' => $field('Groups'), 'capabilities' => $field('CapEff'),
        'pids' => $cgroup(['pids.max', 'pids/pids.max']),
        'memory' => $cgroup(['memory.max', 'memory/memory.limit_in_bytes']),
        'quota' => $cgroup(['cpu.max', 'cpu/cpu.cfs_quota_us']),
        'programs' => array_values(array_filter(['proc_open', 'exec', 'shell_exec', 'system', 'popen', 'dl'], 'function_exists')),
        'root' => @touch('/hostile') || @touch('/srv/hostile'),
        'environment' => getenv(), 'request' => $read('/request.json'), 'read' => []];
    foreach (['/srv/languages/plugins', '/srv/languages/themes', '/site', '/host', '/repository', ''] as $root) {
        foreach (explode("\n", $read(WP_CONTENT_DIR . '/uploads/wanted')) as $path) {
            if ($path !== '' && ($it = $read("$root$path")) !== '') { $seen['read']["$root$path"] = $it; }
        }
        $entries = $root === '' ? [] : (@scandir($root) ?: []);
        // A link that is followed in here leads to this container's own root, which is no secret.
        if (in_array('etc', $entries, true) && realpath($root) !== '/') { $seen['host'] = $root; }
    }
    foreach (glob('/proc/[0-9]*/environ') ?: [] as $path) { $seen['environments'][$path] = $read($path); }
    @file_put_contents(WP_CONTENT_DIR . '/uploads/heard.jsonl',
        json_encode($seen, JSON_INVALID_UTF8_SUBSTITUTE) . "\n", FILE_APPEND);
    $mode = trim($read(WP_CONTENT_DIR . '/uploads/answer-mode'));
    if ($mode === '' || $mode === 'plain') { return; }
    $answers = ['garbage' => "\x1b]0;all is well\x07\x1b[2J\u{202e}not JSON\n",
        'forged' => "{\"wordpress\": [\"\x1b[2J\"], \"administrators\": \"all\", \"cookie\": 1, \"pages\": {}}\n" . str_repeat('0', 64) . "\n"];
    if ($mode === 'long') {
        ob_start(static function (string $text): string { return str_repeat('[', 1 << 25); });
    } elseif ($mode === 'killed') {
        posix_kill(posix_getpid(), 9);
    } else {
        ob_start(static fn (string $text): string => $answers[$mode] ?? $text);
    }
})();
