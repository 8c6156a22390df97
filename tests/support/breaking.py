"""Plugins that break a site under the PHP of a newer release, and what a rehearsal says of each."""

BREAKING = """<?php
/* Plugin Name: Casse */
if (PHP_VERSION_ID >= 80400) {{ {fault} }}
"""

FAULTS = {
    "front": (
        "add_action('template_redirect', function () { if (is_front_page()) { une_fonction_disparue(); } });",
        "/: status 500",
    ),
    "admin": ("add_action('admin_init', function () { une_fonction_disparue(); });", "/wp-admin/: status 500"),
    "rest": ("add_action('rest_api_init', function () { une_fonction_disparue(); });", "/wp-json/: status 500"),
    "cron": (
        "add_action('casse', function () { une_fonction_disparue(); });",
        "une_fonction_disparue",
    ),
    "login": ("add_action('login_init', function () { une_fonction_disparue(); });", "/wp-login.php: status 500"),
    "blank": ("add_action('template_redirect', function () { if (is_front_page()) { exit; } });", "/: is blank"),
    "shrunk": ("add_filter('the_content', fn () => '');", "words are gone"),
    "database-text": (
        "add_action('wp_footer', function () { echo 'WordPress database error'; });",
        "shows an error of the database",
    ),
}
