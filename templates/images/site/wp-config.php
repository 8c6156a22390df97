<?php
// The same file for every site: what differs comes from two mounted secrets.
(static function (): void {
    $read = static fn (string $file): array => json_decode((string) file_get_contents($file), true, 4, JSON_THROW_ON_ERROR);
    $generation = $read('/run/secrets/generation/generation.json');
    $site = $read('/run/secrets/site/site.json');

    define('DB_NAME', $generation['database']);
    define('DB_USER', $generation['user']);
    define('DB_PASSWORD', $generation['password']);
    define('PROVISION_SUPPORT', $generation['support']);
    define('PROVISION_TWIN', $generation['twin']);
    foreach ($site['salts'] as $name => $salt) {
        define($name, $salt);
    }

    // The site's name is the one it was given, whatever the request claims.
    define('WP_HOME', 'https://' . $generation['host']);
    define('WP_SITEURL', WP_HOME);
    $_SERVER['HTTP_HOST'] = $generation['host'];
    $_SERVER['SERVER_NAME'] = (string) parse_url(WP_HOME, PHP_URL_HOST);
    $_SERVER['SERVER_PORT'] = (string) (parse_url(WP_HOME, PHP_URL_PORT) ?? 443);
    $_SERVER['HTTPS'] = 'on';
})();

define('DB_HOST', 'localhost:/run/mysqld/mysqld.sock');
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
$table_prefix = 'wp_';

define('FORCE_SSL_ADMIN', true);
define('WP_LANG_DIR', '/srv/languages');
define('WPMU_PLUGIN_DIR', '/srv/provision/mu-plugins');
define('WP_TEMP_DIR', '/tmp');
define('FS_METHOD', 'direct');
define('WP_POST_REVISIONS', 20);

// The host's ticker calls wp-cron.php; core comes with the image; a site has no way out.
define('DISABLE_WP_CRON', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
define('DISALLOW_FILE_EDIT', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);

defined('ABSPATH') || define('ABSPATH', '/srv/wordpress/');
require_once ABSPATH . 'wp-settings.php';
