#!/usr/bin/php
<?php
// provision.php VERB: the closed list of what the control plane may do inside a site. Reads /tmp/request.json and prints
// one line of JSON. Exit codes: 0 done, 1 failed (one line on stderr), 2 the request is bad.

declare(strict_types=1);

namespace Provision;

use mysqli;
use RuntimeException;
use Throwable;
use WP_Error;
use WP_User;

require __DIR__ . '/pluggable.php';

const SAMPLE = '_provision_sample';
const FILES = '/tmp'; // where the control plane puts the request and what belongs to it

/** The request asks for something impossible: nothing was changed. */
final class BadRequest extends RuntimeException
{
}

/**
 * Installs the site, or completes an installation that was cut short.
 *
 * @param array<string, mixed> $request
 * @return array<string, mixed>
 */
function install(array $request): array
{
    isset($request['site'], $request['kit'], $request['administrators'], $request['reset_days'])
        || throw new BadRequest('the request needs "site", "kit", "administrators" and "reset_days"');
    ['site' => $site, 'kit' => $kit, 'administrators' => $administrators] = $request;
    foreach ($administrators as $one) {
        check_token($one['token']);
        is_email($one['mail']) || throw new BadRequest("not a mail address: $one[mail]");
        sanitize_user($one['login'], true) === $one['login'] || throw new BadRequest("not a login name: $one[login]");
    }
    $first = $administrators[0] ?? throw new BadRequest('a site needs an administrator');

    install_core($site, $first);
    set_options($site);
    $ids = array_map(static fn (array $one): int => administrator($one, (int) $request['reset_days']), $administrators);
    // As an author: without a user WordPress would filter the kit's markup.
    wp_set_current_user($ids[0]);
    if (($site['theme'] ?? null) !== null && $site['theme'] !== get_stylesheet() && wp_get_theme($site['theme'])->exists()) {
        switch_theme($site['theme']);
    }
    insert_kit($kit);
    flush_rewrite_rules(false);
    return versions() + ['administrators' => array_column($administrators, 'login')];
}

/**
 * @param array<string, mixed> $request
 * @return array<string, mixed>
 */
function publish(array $request): array
{
    $public = (bool) $request['public'];
    update_option('blog_public', $public ? '1' : '0');
    return ['public' => $public];
}

/**
 * A new link for an administrator who has lost theirs.
 *
 * @param array<string, mixed> $request
 * @return array<string, mixed>
 */
function invite(array $request): array
{
    isset($request['mail'], $request['token'], $request['reset_days'])
        || throw new BadRequest('the request needs "mail", "token" and "reset_days"');
    check_token($request['token']);
    $user = get_user_by('email', $request['mail']);
    if (!$user || !in_array('administrator', $user->roles, true)) {
        throw new BadRequest("no administrator of this site has the address $request[mail]");
    }
    set_link($user, $request['token'], (int) $request['reset_days']);
    return ['login' => $user->user_login, 'mail' => $user->user_email];
}

/**
 * Updates extensions from packages and brings the database to this WordPress's version. May be repeated.
 *
 * @param array<string, mixed> $request
 * @return array<string, mixed>
 */
function upgrade(array $request): array
{
    require_once ABSPATH . 'wp-admin/includes/class-wp-upgrader.php';
    $answer = ['updated' => [], 'held' => []];
    foreach (outdated($request['packages']) as $one) {
        $skin = new \Automatic_Upgrader_Skin();
        $upgrader = $one['kind'] === 'plugin' ? new \Plugin_Upgrader($skin) : new \Theme_Upgrader($skin);
        // It refuses by itself what needs another PHP or WordPress (C8).
        $result = $upgrader->install(FILES . $one['file'], ['overwrite_package' => true]);
        if ($result !== true) {
            $messages = $skin->get_upgrade_messages();
            $answer['held'][] = "$one[kind] $one[slug] $one[version]: " . strip_tags((string) end($messages));
            continue;
        }
        foreach ($one['translations'] as $file) {
            checked(unzip_file(FILES . $file, WP_LANG_DIR . "/$one[kind]s"));
        }
        $answer['updated'][] = "$one[kind] $one[slug] $one[version]";
    }
    upgrade_database();
    return $answer + versions();
}

/** Brings the database to this WordPress's version, which goes on in silence past whatever the server refuses it. */
function upgrade_database(): void
{
    $wpdb = $GLOBALS['wpdb'];
    $GLOBALS['EZSQL_ERROR'] = [];
    wp_upgrade();
    // It asks for tables that are not there yet.
    $refused = array_filter($GLOBALS['EZSQL_ERROR'], static fn (array $one): bool => !str_starts_with($one['query'], 'DESCRIBE'));
    $reached = (int) $wpdb->get_var("SELECT option_value FROM $wpdb->options WHERE option_name = 'db_version'");
    $wanted = (int) $GLOBALS['wp_db_version'];
    if ($refused !== [] || $reached !== $wanted) {
        $why = array_column($refused, 'error_str')[0] ?? 'without a reason';
        throw new RuntimeException("the database is at version $reached instead of $wanted: $why");
    }
}

/**
 * Returns the packages that are newer than what is installed; what is not installed is not offered.
 *
 * @param list<array<string, mixed>> $packages
 * @return list<array<string, mixed>>
 */
function outdated(array $packages): array
{
    $installed = [];
    foreach (get_plugins() as $file => $plugin) {
        $installed['plugin ' . (str_contains($file, '/') ? dirname($file) : basename($file, '.php'))] = $plugin['Version'];
    }
    foreach (wp_get_themes() as $slug => $theme) {
        $installed["theme $slug"] = $theme->get('Version');
    }
    return array_values(array_filter($packages, static function (array $one) use ($installed): bool {
        $mine = $installed["$one[kind] $one[slug]"] ?? null;
        return $mine !== null && version_compare($one['version'], (string) $mine, '>');
    }));
}

/**
 * Prepares a twin to be looked at: everything planned is due, and its administrator is logged in.
 *
 * @param array<string, mixed> $request
 * @return array<string, mixed>
 */
function rehearse(array $request): array
{
    PROVISION_TWIN || throw new BadRequest('only a twin is rehearsed on');
    $due = [];
    foreach (array_values(_get_cron_array()) as $place => $hooks) {
        $due[time() - HOUR_IN_SECONDS + $place] = $hooks;
    }
    checked(_set_cron_array($due, true));
    $user = get_users(['role' => 'administrator', 'orderby' => 'ID', 'number' => 1])[0] ?? throw new RuntimeException('this site has no administrator');
    $until = time() + HOUR_IN_SECONDS;
    $token = \WP_Session_Tokens::get_instance($user->ID)->create($until);
    $cookies = [SECURE_AUTH_COOKIE => 'secure_auth', LOGGED_IN_COOKIE => 'logged_in'];
    $newest = get_posts(['post_type' => ['page', 'post'], 'post_status' => 'publish', 'numberposts' => $request['pages'], 'orderby' => 'modified']);
    return [
        'cookie' => implode('; ', array_map(static fn (string $name, string $scheme): string => "$name=" . wp_generate_auth_cookie($user->ID, $until, $scheme, $token), array_keys($cookies), $cookies)),
        'paths' => array_values(array_unique(array_map(static fn (\WP_Post $post): string => (string) parse_url((string) get_permalink($post), PHP_URL_PATH), $newest))),
    ];
}

/**
 * @param array<string, mixed> $request
 * @return array<string, mixed>
 */
function facts(array $request): array
{
    $administrators = get_users(['role' => 'administrator', 'orderby' => 'ID']);
    return versions() + [
        'administrators' => array_map(static fn (WP_User $user): array => ['login' => $user->user_login, 'mail' => $user->user_email], $administrators),
        'public' => get_option('blog_public') === '1',
        'theme' => get_stylesheet(),
        'plugins' => array_values((array) get_option('active_plugins', [])),
        'outdated' => array_column(outdated($request['packages'] ?? []), 'slug'),
    ];
}

/**
 * Writes WordPress's own export to /export, and the addresses of all that is published.
 *
 * @param array<string, mixed> $request
 * @return array<string, mixed>
 */
function export(array $request): array
{
    require_once ABSPATH . 'wp-admin/includes/export.php';
    $wpdb = $GLOBALS['wpdb'];
    wp_suspend_cache_addition(true); // a large site need not fit in memory
    // The association's plugins are not loaded: what they call their contents is made known, so that all is exported.
    foreach ($wpdb->get_col("SELECT DISTINCT post_type FROM $wpdb->posts") as $type) {
        post_type_exists($type) || register_post_type($type, ['can_export' => true]);
    }
    foreach ($wpdb->get_col("SELECT DISTINCT taxonomy FROM $wpdb->term_taxonomy") as $taxonomy) {
        taxonomy_exists($taxonomy) || register_taxonomy($taxonomy, get_post_types());
    }
    $file = fopen('/export/wordpress.xml', 'w') ?: throw new RuntimeException('cannot write the export');
    $written = 0;
    ob_start(static function (string $text) use ($file, &$written): string {
        // Characters that no XML may hold, and that WordPress passes on.
        $text = (string) preg_replace('/[\x00-\x08\x0B\x0C\x0E-\x1F]|\xEF\xBF[\xBE\xBF]/', '', $text);
        $written += fwrite($file, $text) === strlen($text) ? strlen($text) : PHP_INT_MIN;
        return '';
    }, 1 << 16);
    export_wp(['content' => 'all']);
    ob_end_flush();
    $written > 0 && fsync($file) && fclose($file) || throw new RuntimeException('cannot write the export: is the disk full?');

    $pages = [];
    foreach (['page', 'post'] as $type) {
        $ids = get_posts(['post_type' => $type, 'post_status' => 'publish', 'numberposts' => -1, 'fields' => 'ids', 'has_password' => false]);
        array_push($pages, ...array_map('get_permalink', $ids));
    }
    file_put_contents('/export/pages.json', json_encode($pages, JSON_THROW_ON_ERROR)) || throw new RuntimeException('cannot write the list of pages');
    return ['bytes' => $written, 'pages' => count($pages)];
}

/**
 * @param array<string, mixed> $site
 * @param array<string, string> $first
 */
function install_core(array $site, array $first): void
{
    // Everything after the tables is one transaction: a killed run leaves empty tables, which the next one fills.
    add_action('populate_options', static function (): void {
        $GLOBALS['wpdb']->query('START TRANSACTION');
        // Roles are built in memory and written once, instead of once per capability.
        wp_roles()->use_db = false;
    });
    // Ours is set below; without this WordPress would fetch its own pages to find one that works.
    $structure = static fn (): string => '/%year%/%monthnum%/%postname%/';
    add_filter('pre_option_permalink_structure', $structure);
    // The password is replaced by an unusable hash in any case.
    // Escaped by WordPress, but not where it sees an entity: "R&amp;D" would become "R&D".
    wp_install(str_replace('&', '&#038;', $site['title']), $first['login'], $first['mail'], false, '', 'unusable', 'fr_FR');
    remove_filter('pre_option_permalink_structure', $structure);
    wp_roles()->use_db = true;
    update_option(wp_roles()->role_key, wp_roles()->roles, true);
    wp_installing(false);
}

/** @param array<string, mixed> $site */
function set_options(array $site): void
{
    $options = [
        'siteurl' => $site['url'],
        'home' => $site['url'],
        'blogdescription' => $site['tagline'],
        'timezone_string' => 'Europe/Paris',
        'gmt_offset' => '',
        'date_format' => 'j F Y',
        'time_format' => 'H:i',
        'start_of_week' => '1',
        'users_can_register' => '0',
        'show_avatars' => '0',
        'comment_moderation' => '1',
        'default_ping_status' => 'closed',
        'default_pingback_flag' => '0',
    ];
    foreach (['thumbnail' => '300', 'medium' => '640', 'large' => '1280'] as $size => $pixels) {
        $options += ["{$size}_size_w" => $pixels, "{$size}_size_h" => $pixels];
    }
    array_map('update_option', array_keys($options), $options);
    $GLOBALS['wp_rewrite']->set_permalink_structure('/%year%/%monthnum%/%postname%/');
}

/** @param array<string, string> $one */
function administrator(array $one, int $days): int
{
    $user = get_user_by('login', $one['login']);
    if (!$user) {
        $id = wp_insert_user(['user_login' => $one['login'], 'user_email' => $one['mail'], 'user_pass' => 'unusable', 'role' => 'administrator']);
        $user = new WP_User(checked($id));
    }
    if ($user->display_name !== $one['name'] || $user->locale !== 'fr_FR') {
        checked(wp_update_user(wp_slash(['ID' => $user->ID, 'display_name' => $one['name'], 'nickname' => $one['name'], 'locale' => 'fr_FR'])));
    }
    set_link($user, $one['token'], $days);
    return $user->ID;
}

/** WordPress's own reset key, with a token chosen by the control plane and a life of some days. */
function set_link(WP_User $user, string $token, int $days): void
{
    $choose = static fn (): string => $token;
    add_filter('random_password', $choose);
    checked(get_password_reset_key($user));
    remove_filter('random_password', $choose);
    // "time:hash", valid for one day after that time.
    $wpdb = $GLOBALS['wpdb'];
    $wpdb->query($wpdb->prepare(
        "UPDATE $wpdb->users SET user_activation_key = CONCAT(%d, ':', SUBSTRING_INDEX(user_activation_key, ':', -1)) WHERE ID = %d",
        time() + ($days - 1) * DAY_IN_SECONDS,
        $user->ID
    ));
    clean_user_cache($user);
}

/** @param array<string, mixed> $kit */
function insert_kit(array $kit): void
{
    wp_defer_term_counting(true);
    add_filter('wp_revisions_to_keep', '__return_zero');

    $categories = [];
    foreach ($kit['categories'] as $place => $one) {
        $known = get_term_by('slug', $one['slug'], 'category');
        $categories[$one['slug']] = $known ? $known->term_id : (int) checked(wp_insert_term($one['name'], 'category', ['slug' => $one['slug']]))['term_id'];
        if ($place === 0) {
            update_option('default_category', $categories[$one['slug']]);
        }
    }

    $pages = array_map(static fn (array $page): array => $page + ['parent' => null, 'role' => null, 'order' => 0], $kit['pages']);
    $urls = page_urls($pages);
    $ids = [];
    foreach ($pages as $page) {
        $ids[$page['slug']] = sample('page', $page, fill($page['content'], $urls, []), [
            'post_parent' => $page['parent'] === null ? 0 : $ids[$page['parent']],
            'menu_order' => $page['order'],
            'comment_status' => 'closed',
        ]);
        $options = ['front' => 'page_on_front', 'posts' => 'page_for_posts', 'privacy' => 'wp_page_for_privacy_policy'];
        if ($page['role'] !== null) {
            update_option($options[$page['role']], $ids[$page['slug']]);
        }
    }
    update_option('show_on_front', get_option('page_on_front') ? 'page' : 'posts');
    foreach ($kit['posts'] as $post) {
        sample('post', $post, fill($post['content'], $urls, []), ['post_category' => [$categories[$post['category']]]]);
    }

    // The theme's header shows the only menu there is.
    sample('wp_navigation', ['slug' => 'navigation', 'title' => 'Menu principal'], fill($kit['navigation'], $urls, $ids));
    if (wp_is_block_theme()) {
        $footer = sample('wp_template_part', ['slug' => 'footer', 'title' => 'Pied de page'], fill($kit['footer'], $urls, $ids));
        checked(wp_set_object_terms($footer, get_stylesheet(), 'wp_theme'));
        checked(wp_set_object_terms($footer, 'footer', 'wp_template_part_area'));
    }
    wp_defer_term_counting(false);
}

/**
 * @param list<array<string, mixed>> $pages
 * @return array<string, string>
 */
function page_urls(array $pages): array
{
    $paths = [];
    $urls = [];
    foreach ($pages as $page) {
        $parent = $page['parent'] === null ? '/' : ($paths[$page['parent']] ?? throw new BadRequest("page $page[slug] comes before its parent $page[parent]"));
        $paths[$page['slug']] = "$parent$page[slug]/";
        $urls[$page['slug']] = home_url($page['role'] === 'front' ? '/' : $paths[$page['slug']]);
    }
    return $urls;
}

/**
 * @param array<string, string> $urls
 * @param array<string, int> $ids
 */
function fill(string $markup, array $urls, array $ids): string
{
    return (string) preg_replace_callback('/\{(page|id):([a-z0-9-]+)\}/', static function (array $match) use ($urls, $ids): string {
        return (string) (($match[1] === 'page' ? $urls : $ids)[$match[2]] ?? throw new BadRequest("$match[0] names no page"));
    }, $markup);
}

/**
 * Inserts a piece of the kit unless it is there, and marks it, so that untouched samples can be told.
 *
 * @param array<string, mixed> $one
 * @param array<string, mixed> $more
 */
function sample(string $type, array $one, string $content, array $more = []): int
{
    $known = get_posts(['post_type' => $type, 'name' => $one['slug'], 'post_status' => 'any', 'meta_key' => SAMPLE, 'fields' => 'ids', 'suppress_filters' => false]);
    if ($known) {
        return $known[0];
    }
    return (int) checked(wp_insert_post(wp_slash($more + [
        'post_type' => $type,
        'post_status' => 'publish',
        'post_name' => $one['slug'],
        'post_title' => $one['title'],
        'post_content' => $content,
        'meta_input' => [SAMPLE => hash('sha256', $content)],
    ]), true));
}

/**
 * WordPress refuses to load on tables that a killed installation left empty: they go, and are made again. Without a
 * user, the transaction that fills the tables was never committed.
 */
function forget_killed_installation(): void
{
    $generation = json_decode((string) file_get_contents('/run/secrets/generation/generation.json'), true, 4, JSON_THROW_ON_ERROR);
    $database = new mysqli(null, $generation['user'], $generation['password'], $generation['database'], 0, '/run/mysqld/mysqld.sock');
    $rows = static fn (string $query): array => array_column($database->query($query)->fetch_all(), 0);
    $tables = $rows("SHOW TABLES LIKE 'wp\\_%'");
    if (!in_array('wp_users', $tables, true) || $rows('SELECT ID FROM wp_users LIMIT 1') === []) {
        foreach ($tables as $table) {
            $database->query("DROP TABLE `$table`");
        }
    }
    $database->close();
}

/** @return array{wordpress: string, php: string, db_version: int} */
function versions(): array
{
    return ['wordpress' => get_bloginfo('version'), 'php' => PHP_VERSION, 'db_version' => (int) get_option('db_version')];
}

function check_token(string $token): void
{
    // WordPress drops every other character from the key of a link.
    preg_match('/^[A-Za-z0-9]{20,128}$/D', $token) || throw new BadRequest('a token is 20 to 128 letters and digits');
}

/**
 * @template T
 * @param T|WP_Error $result
 * @return T
 */
function checked(mixed $result): mixed
{
    return $result instanceof WP_Error ? throw new RuntimeException($result->get_error_message()) : $result;
}


// The association's plugins stay out of it: a broken one must not stop an invitation.
define('WP_INSTALLING', true);
define('WP_IMPORTING', true);
ini_set('display_errors', 'stderr');
ini_set('mysqlnd.net_read_timeout', '45'); // a database server that hangs is waited for no longer (A7)
// WordPress dies with a page of HTML (no database, for instance): here it is one line.
$die = static fn (): callable => static function (mixed $message): never {
    $html = $message instanceof WP_Error ? $message->get_error_message() : (string) $message;
    $title = preg_match('#<h1>(.*?)</h1>#s', $html, $match) ? $match[1] : $html;
    throw new RuntimeException(trim((string) preg_replace('/\s+/', ' ', strip_tags($title))));
};
$GLOBALS['wp_filter']['wp_die_handler'][10][] = ['function' => $die, 'accepted_args' => 1];

try {
    $verb = $argv[1] ?? '';
    if (!in_array($verb, ['install', 'publish', 'invite', 'facts', 'upgrade', 'rehearse', 'export'], true)) {
        throw new BadRequest("unknown verb: $verb");
    }
    $request = json_decode((string) @file_get_contents(FILES . '/request.json'), true);
    if (!is_array($request)) {
        throw new BadRequest('the request is missing or is not JSON');
    }
    if ($verb === 'install') {
        forget_killed_installation();
    }
    require '/srv/wordpress/wp-load.php';
    require ABSPATH . 'wp-admin/includes/upgrade.php';
    if ($verb !== 'install' && !is_blog_installed()) {
        throw new RuntimeException('this site is not installed');
    }
    $answer = (__NAMESPACE__ . '\\' . $verb)($request);
    $GLOBALS['wpdb']->query('COMMIT');
    echo json_encode($answer, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES), "\n";
} catch (Throwable $error) {
    fwrite(STDERR, 'provision.php: ' . $error->getMessage() . "\n");
    exit($error instanceof BadRequest ? 2 : 1);
}
